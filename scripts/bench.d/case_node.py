"""All apps of a node at once: OpenStack's control plane, from files to a first server."""

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial

import distribution
import first_use
import nodes
from case_install import note_flush, timing_row
from contest import Contestant, Sample, medians, on_fresh_disk, take_turns, talk
from disk import settle, space, warm
from measure import ChildFailed, family, run, sync_filesystem
from network import own_network
from peers import TAR, Peer, Release, is_installed, prepared
from plane import Plane, read_plane
from processes import memory_of_confined, pss
from product import APPB
from results import Column, Row, Table, median
from session import Session

_BESIDE = (APPB, TAR.name, "dpkg -i", "podman load", "ostree pull-local, checkout")
_PATIENCE_S = 900.0
_ROUNDS = 3
"""At most, of what takes minutes."""


def measure(session: Session) -> list[Table]:
    """Installing all apps, what they take on disk, and running them."""
    talk("node: unpacking the bundles, to make the other tools' archives from their files")
    plane = read_plane(session.control_plane, session.workdir)
    tools = session.tools(*plane.first, *plane.second, among=_BESIDE)
    first = _samples(session, "node", tools, plane.first)
    return [
        _install(plane, tools, first),
        _disk(session, plane, tools, first),
        _services(session, plane, first.get(APPB)),
    ]


def _samples(
    session: Session,
    title: str,
    tools: Sequence[Peer],
    releases: Sequence[Release],
    *,
    previous: Sequence[Release] = (),
    rounds: int | None = None,
) -> dict[str, list[Sample]]:
    def contestant(tool: Peer) -> Contestant:
        return Contestant(
            tool.name,
            lambda: on_fresh_disk(
                session.workdir,
                tool,
                releases,
                previous=previous,
                durable_itself=tool.name == APPB,
            ),
        )

    contestants = [contestant(tool) for tool in tools]
    samples = take_turns(title, contestants, session.rounds if rounds is None else rounds)
    return {name: own for name, own in samples.items() if own}


# Installing, without any service


def _install(plane: Plane, tools: Sequence[Peer], samples: Mapping[str, list[Sample]]) -> Table:
    table = Table(
        name="node-install",
        title=f"All {len(plane.first)} apps of a node from nothing: {', '.join(plane.names)}",
        columns=(
            Column("name", "Tool"),
            Column("seconds", "seconds", "s"),
            Column("ratio", "ratio to tar", "ratio"),
            Column("cpu_seconds", "CPU seconds", "s"),
            Column("archive_bytes", "archives, MB", "MB"),
        ),
        notes=["No service is started."],
    )
    for tool in tools:
        if own := samples.get(tool.name):
            row = timing_row(tool.name, own, samples.get(TAR.name))
            row["archive_bytes"] = sum(warm([prepared(tool, each)]) for each in plane.first)
            table.rows.append(row)
    table.rows.sort(key=lambda row: float(str(row["seconds"])))
    note_flush(table, dict(samples))
    return table


# On disk


def _disk(
    session: Session, plane: Plane, tools: Sequence[Peer], first: Mapping[str, list[Sample]]
) -> Table:
    table = Table(
        name="node-disk",
        title="What they take on disk",
        columns=(
            Column("name", "Tool"),
            Column("added_bytes", "all apps, MB", "MB"),
            Column("added_inodes", "inodes"),
            Column("second_bytes", "second releases, MB", "MB"),
            Column("second_inodes", "inodes"),
        ),
        notes=[_tell_second(plane)],
    )
    second: Mapping[str, list[Sample]] = {}
    if plane.second:
        title = "node, second releases"
        second = _samples(session, title, tools, plane.second, previous=plane.first, rounds=1)
    for name, own in first.items():
        table.rows.append(_added(name, own, second.get(name)))
    (appb,) = (tool for tool in tools if tool.name == APPB)
    try:
        table.rows.append(_alone(session, plane, appb))
    except ChildFailed as error:
        _give_up(table, f"{APPB}, each app alone", error)
    table.rows.sort(key=lambda row: float(str(row["added_bytes"])))
    return table


def _tell_second(plane: Plane) -> str:
    names = [f"{each.name} {each.version}" for each in plane.second]
    if not names:
        return "No app has a second release here."
    return f"Second releases, added to all first ones: {', '.join(names)}; dpkg replaces the first."


def _added(name: str, first: Sequence[Sample], second: Sequence[Sample] | None) -> Row:
    row: Row = {
        "name": name,
        "added_bytes": first[-1].added.bytes,
        "added_inodes": first[-1].added.inodes,
    }
    if second:
        row["second_bytes"] = second[-1].added.bytes
        row["second_inodes"] = second[-1].added.inodes
    return row


def _alone(session: Session, plane: Plane, appb: Peer) -> Row:
    """Each app on a disk of its own, where it shares nothing with another one."""
    samples = [
        on_fresh_disk(session.workdir, appb, [release], durable_itself=True)
        for release in plane.first
    ]
    return {
        "name": f"{APPB}, each app alone",
        "added_bytes": sum(sample.added.bytes for sample in samples),
        "added_inodes": sum(sample.added.inodes for sample in samples),
    }


# Running


_COPIES = ", a copy each"


def _services(session: Session, plane: Plane, installed: Sequence[Sample] | None) -> Table:
    table = Table(
        name="node-services",
        title="From files to services that are used",
        columns=(
            Column("name", "What"),
            Column("installed_s", "installed, s", "s"),
            Column("databases_s", "databases made, s", "s"),
            Column("healthy_s", "all healthy, s", "s"),
            Column("used_s", "used, s", "s"),
            Column("added_bytes", "new on disk, MB", "MB"),
            Column("services_bytes", "services, MB", "MB"),
            Column("others_bytes", "everything else, MB", "MB"),
            Column("ratio", "ratio to copies", "ratio"),
        ),
        notes=[
            f"Used: {first_use.describe(plane.names)}.",
            "Every time is since the beginning; installed, and new on disk, are without services. "
            "Memory is the sum of proportional set sizes after the first use.",
        ],
    )
    for name, rows in _in_turns(table, _ways(session, plane, table), session.rounds).items():
        table.rows.append({"name": name} | _medians(rows))
    for row in table.rows:
        if installed and "healthy_s" in row:
            row["installed_s"] = medians(installed)
            row["added_bytes"] = installed[-1].added.bytes
    _compare(table.rows)
    if distribution.packages_for(plane.names):
        table.notes.append(_NOT_INCLUDED)
    return table


_NOT_INCLUDED = (
    "Debian's packages are of older releases. Of them are timed unpacking and configuring from "
    "files on the disk, and making the databases; not writing the services' configuration, users "
    "and endpoints beside Keystone's own, and not starting anything but the database server."
)


def _ways(session: Session, plane: Plane, table: Table) -> Iterator[tuple[str, Callable[[], Row]]]:
    names = {nodes.SYSTEMD: "appb, systemd", nodes.EMBEDDED: "appb supervise"}
    for kind in session.keepers:
        on_node = partial(_on_node, session, plane, table, kind)
        yield f"{names[kind]}, files shared", on_node
        yield f"{names[kind]}{_COPIES}", partial(on_node, copies=True)
    packages = distribution.packages_for(plane.names)
    if packages and session.wants("apt-get") and is_installed("mmdebstrap"):
        yield "Debian's packages, apt-get install", partial(_debian, session, plane, packages)


def _in_turns(
    table: Table, ways: Iterator[tuple[str, Callable[[], Row]]], rounds: int
) -> dict[str, list[Row]]:
    found: dict[str, list[Row]] = {}
    running = dict(ways)
    for number in range(max(1, min(_ROUNDS, rounds))):
        for name, measured in list(running.items()):
            talk(f"node, {number + 1}: {name}")
            try:
                found.setdefault(name, []).append(measured())
            except (ChildFailed, OSError) as error:
                _give_up(table, name, error)
                del running[name]
                found.pop(name)
    return found


def _give_up(table: Table, name: str, error: Exception) -> None:
    talk(f"{table.name}: {name} FAILED: {error}")
    table.notes.append(f"not measured: {name}: {str(error).splitlines()[0]}")


def _medians(rows: Sequence[Row]) -> Row:
    keys = [key for key in rows[0] if all(key in row for row in rows)]
    return {key: median([float(str(row[key])) for row in rows]) for key in keys}


def _compare(rows: Sequence[Row]) -> None:
    """Memory beside that of the same keeper with a copy of each file for each app."""
    memory = {str(row["name"]): row["all_bytes"] for row in rows if "all_bytes" in row}
    for name, size in memory.items():
        copies = memory.get(name.replace(", files shared", _COPIES))
        row = next(row for row in rows if row["name"] == name)
        row["ratio"] = float(str(size)) / float(str(copies)) if copies else None


def _on_node(
    session: Session, plane: Plane, table: Table, kind: str, *, copies: bool = False
) -> Row:
    with (
        _network(kind) as network,
        nodes.node(session.workdir, kind, within=network, without=plane.names) as node,
    ):
        warm(plane.bundles)
        before = pss(family(node.first))
        settle()
        began = time.monotonic()
        row: Row = {}
        if copies:
            _start_copies(node, plane)
        else:
            node.run_appb("install", *plane.bundles, time_limit_s=_PATIENCE_S)
            row["healthy_s"] = time.monotonic() - began
        try:
            used = first_use.use(node, plane.names, session.workdir)
        except ChildFailed as error:
            _give_up(table, f"first use, {kind}", error)
            used = False
        if used and not copies:
            row["used_s"] = time.monotonic() - began
        return row | memory_of_confined(node.first, before)


@contextlib.contextmanager
def _network(kind: str) -> Iterator[Sequence[str]]:
    """Give a node a network of its own, if possible: there the apps' usual ports are free."""
    with contextlib.ExitStack() as stack:
        within: Sequence[str] = ()
        if kind != nodes.SYSTEMD:
            try:
                within = stack.enter_context(own_network())
            except ChildFailed as error:
                talk(f"node: on this machine's own ports: {error}")
        yield within


def _start_copies(node: nodes.Node, plane: Plane) -> None:
    node.run_appb("install", "--no-switch", *plane.bundles, time_limit_s=_PATIENCE_S)
    for release in plane.first:
        node.copy_files(release.name, release.version)
    versions = [f"{release.name}@{release.version}" for release in plane.first]
    node.run_appb("switch", *versions, time_limit_s=_PATIENCE_S)


def _debian(session: Session, plane: Plane, packages: Sequence[str]) -> Row:
    archive = distribution.prepare(session.workdir, packages)
    with distribution.fresh_tree(session.workdir, archive) as tree:
        before = space(tree)
        warm([tree / "var/cache/apt/archives"])
        settle()
        durable = sync_filesystem(tree)
        chain = [distribution.install(tree, packages), durable]
        installed = run(chain, time_limit_s=_PATIENCE_S).seconds
        added = space(tree).bytes - before.bytes
        settle()
        making = [distribution.make_databases(tree, plane.names), durable]
        databases = run(making, time_limit_s=_PATIENCE_S).seconds
    return {
        "installed_s": installed,
        "databases_s": installed + databases,
        "added_bytes": added,
    }
