"""The next release beside the one that is there: time, and new bytes on disk."""

import os
from pathlib import Path

from case_install import note_flush, timing_row
from contest import Contestant, on_fresh_disk, take_turns
from disk import fresh_disk
from measure import run
from peers import TAR, Peer, Release, prepared
from product import APPB, contestant
from results import Column, Table
from session import Session

from bundles import read_manifest

COLUMNS = (
    Column("name", "Tool"),
    Column("seconds", "seconds", "s"),
    Column("ratio", "ratio to tar", "ratio"),
    Column("added_bytes", "new on disk, MB", "MB"),
    Column("added_inodes", "new inodes"),
)


def measure(session: Session) -> list[Table]:
    """Every tool with the new release, on a disk that holds the old one."""
    tools = session.tools(session.old, session.new)

    def measured(tool: Peer) -> Contestant:
        durable_itself = tool.name == APPB
        return Contestant(
            tool.name,
            lambda: on_fresh_disk(
                session.workdir,
                tool,
                [session.new],
                previous=[session.old],
                durable_itself=durable_itself,
            ),
        )

    samples = take_turns("upgrade", [measured(tool) for tool in tools], session.rounds)
    table = Table(
        name="upgrade",
        title=f"Upgrade {session.old.version} → {session.new.version}",
        columns=COLUMNS,
        notes=[
            "Both releases are on disk afterwards, except with dpkg, which replaces the old one."
        ],
    )
    for tool in tools:
        if own := samples.get(tool.name):
            row = timing_row(tool.name, own, samples.get(TAR.name))
            row["added_bytes"] = own[-1].added.bytes
            row["added_inodes"] = own[-1].added.inodes
            table.rows.append(row)
    table.rows.sort(key=lambda row: float(str(row["seconds"])))
    note_flush(table, samples)
    return [table, _disk_use(session, contestant(session.workdir))]


# What an upgrade by appb puts on disk, against what really changed


def _disk_use(session: Session, tool: Peer) -> Table:
    """Tell the new bytes by kind; on a disk of its own, outside any time."""
    with fresh_disk(session.workdir) as disk:
        assert tool.set_up is not None
        tool.set_up(disk)
        run(tool.install(prepared(tool, session.old), session.old, disk, None))
        before = _by_kind(disk)
        run(tool.install(prepared(tool, session.new), session.new, disk, session.old))
        after = _by_kind(disk)
    changed_bytes, changed_files = changed_content(session.old, session.new)
    table = Table(
        name="upgrade-disk",
        title=f"What appb adds to the disk, {session.old.version} → {session.new.version}",
        columns=(
            Column("name", "Kind"),
            Column("bytes", "bytes, MB", "MB"),
            Column("allocated_bytes", "in blocks, MB", "MB"),
            Column("inodes", "inodes"),
            Column("ratio", "ratio to changed", "ratio"),
        ),
    )
    table.rows.append(
        {"name": "what changed (manifests)", "bytes": changed_bytes, "inodes": changed_files}
    )
    for kind in _KINDS:
        size, blocks, inodes = (a - b for a, b in zip(after[kind], before[kind], strict=True))
        table.rows.append(
            {
                "name": kind,
                "bytes": size,
                "allocated_bytes": blocks,
                "inodes": inodes,
                "ratio": size / changed_bytes if kind == _CONTENT and changed_bytes else None,
            }
        )
    return table


_CONTENT = "contents of files"
_KINDS = (_CONTENT, "directories and links", "manifests and signatures", "everything else")


def _by_kind(disk: Path) -> dict[str, tuple[int, int, int]]:
    """For each kind: bytes, bytes in blocks, and inodes, each inode counted once."""
    totals = {kind: [0, 0, 0] for kind in _KINDS}
    seen: set[int] = set()
    apps = str(disk / "apps")
    for here, directories, names in os.walk(apps):
        inside = os.path.relpath(here, apps).split(os.sep)
        for name in (*directories, *names):
            found = os.lstat(f"{here}/{name}")
            if found.st_ino in seen:
                continue
            seen.add(found.st_ino)
            total = totals[_kind(inside, os.path.isfile(f"{here}/{name}"))]
            total[0] += found.st_size
            total[1] += found.st_blocks * 512
            total[2] += 1
    return {kind: (total[0], total[1], total[2]) for kind, total in totals.items()}


def _kind(inside: list[str], is_file: bool) -> str:
    if inside[0] == ".appb" and inside[1:2] != ["objects"]:
        return "everything else"
    if ".bundle" in inside:
        return "manifests and signatures"
    return _CONTENT if is_file else "directories and links"


def changed_content(old: Release, new: Release) -> tuple[int, int]:
    """What the new release has and the old one lacks, by the manifests.

    Returns:
        Bytes and number of the distinct contents.
    """
    known = {(file.sha256, file.executable) for file in read_manifest(old.bundle).files}
    sizes = {
        (file.sha256, file.executable): file.size
        for file in read_manifest(new.bundle).files
        if file.size and (file.sha256, file.executable) not in known
    }
    return sum(sizes.values()), len(sizes)
