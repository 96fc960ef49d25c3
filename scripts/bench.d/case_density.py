"""Very many small services on one node: how long until all answer, and what they take of memory."""

import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import nodes
import programs
import signing
import webserver
from contest import talk
from disk import fresh_disk
from load import await_answers
from measure import ChildFailed, command, family, run
from nodes import Node
from processes import families, memory_of, pss
from product import contents_of
from replacing import podman, start_container
from results import Column, Row, Table
from session import Session

from bundles import write_bundle

_TENTH = 10
"""Containers are measured with a tenth of the services, and what they take is multiplied."""
_BASE = "plain units, not confined"


@dataclass(frozen=True, slots=True, kw_only=True)
class Crowd:
    """The services.

    Args:
        count: How many.
        tree: The files of one of them.
        bundles: One each.
        ports: Where each answers.
    """

    count: int
    tree: Path
    bundles: Sequence[Path]
    ports: Sequence[int]

    @property
    def names(self) -> list[str]:
        """Of the apps."""
        return [_name(number) for number in range(self.count)]

    def urls(self, count: int | None = None) -> list[str]:
        """Where they answer."""
        return [f"http://127.0.0.1:{port}/" for port in self.ports[:count]]


def measure(session: Session) -> list[Table]:
    """One table; every row is as many of the same small web server."""
    table = Table(
        name="density",
        title=f"{session.services} small web servers on one node",
        columns=(
            Column("name", "Kept by"),
            Column("install_s", "by a switch or one by one, s", "s"),
            Column("boot_s", "all at once, s", "s"),
            Column("services_bytes", "services, MB", "MB"),
            Column("others_bytes", "everything else, MB", "MB"),
            Column("each_bytes", "both for one, MB", "MB"),
            Column("ratio", "ratio", "ratio"),
        ),
        notes=[
            "Memory is the sum of proportional set sizes; everything else is what other processes "
            "have more than before.",
            f"Ratio: of both, to {_BASE}, or where there are none, to the first row.",
        ],
    )
    crowd = _crowd(session)
    for name, started in _ways(session, crowd):
        talk(f"density: {name}")
        try:
            table.rows.append({"name": name} | started())
        except (ChildFailed, OSError) as error:
            talk(f"density: {name} FAILED: {error}")
            table.notes.append(f"not measured: {name}: {str(error).splitlines()[0]}")
    _compare(table.rows)
    return [table]


def _ways(session: Session, crowd: Crowd) -> Iterator[tuple[str, Callable[[], Row]]]:
    workdir = session.workdir
    keepers = {
        nodes.SYSTEMD: ("appb, systemd", _on_systemd),
        nodes.EMBEDDED: ("appb supervise", _on_embedded),
    }
    for keeper in session.keepers:
        name, start = keepers[keeper]
        yield f"{name}, files shared", partial(start, workdir, crowd, shared=True)
        yield f"{name}, a copy each", partial(start, workdir, crowd, shared=False)
    if nodes.SYSTEMD in session.keepers:
        yield _BASE, lambda: _units(workdir, crowd)
    if session.wants("podman") and shutil.which("podman"):
        few = max(1, crowd.count // _TENTH)
        title = f"podman, {few} of one image, memory times {crowd.count / few:g}"
        yield title, lambda: _containers(workdir, crowd, few)


def _compare(rows: Sequence[Row]) -> None:
    both = {str(row["name"]): float(str(row["each_bytes"])) for row in rows}
    for row in rows:
        row["ratio"] = both[str(row["name"])] / both.get(_BASE, next(iter(both.values())))


# The services


def _name(number: int) -> str:
    return f"app-{number:03}"


def _crowd(session: Session) -> Crowd:
    """Make a bundle each, with all that it needs: they differ in one file and their names."""
    talk(f"density: making {session.services} bundles")
    workdir = session.workdir
    tree = webserver.make_tree(workdir / "tree-density", "1.0")
    common = contents_of(tree)
    bundles = []
    ports = webserver.free_ports(session.services)
    for number, port in enumerate(ports):
        name = _name(number)
        bundles.append(workdir / f"{name}.bundle")
        write_bundle(
            bundles[-1],
            name=name,
            version="1.0",
            release=1,
            contents=common
            | programs.mount_points(name)
            | {"srv/web/version": f"{name}\n".encode()},
            sign=signing.signer(workdir),
            services=(webserver.service(name, port),),
        )
    return Crowd(count=session.services, tree=tree, bundles=bundles, ports=ports)


# Who keeps them


def _on_systemd(workdir: Path, crowd: Crowd, *, shared: bool) -> Row:
    with nodes.node(workdir, nodes.SYSTEMD) as node:
        before = pss(family(node.first))
        row = _install(node, crowd, shared=shared) | _boot(node, crowd)
        return row | memory_of(family(node.first), crowd.count, before)


def _on_embedded(workdir: Path, crowd: Crowd, *, shared: bool) -> Row:
    """Here a boot is another supervisor."""
    with fresh_disk(workdir) as disk:
        signing.trust(disk, workdir)
        with nodes.embedded(disk) as node:
            before = pss(family(node.first))
            row = _install(node, crowd, shared=shared)
        began = time.monotonic()
        with nodes.embedded(disk) as node:
            await_answers(node, *crowd.urls())
            row["boot_s"] = time.monotonic() - began
            return row | memory_of(family(node.first), crowd.count, before)


def _install(node: Node, crowd: Crowd, *, shared: bool) -> Row:
    node.run_appb("install", "--no-switch", *crowd.bundles)
    if not shared:
        for name in crowd.names:
            node.copy_files(name, "1.0")
    began = time.monotonic()
    node.run_appb("switch", *(f"{name}@1.0" for name in crowd.names))
    await_answers(node, *crowd.urls())
    return {"install_s": time.monotonic() - began}


def _boot(node: Node, crowd: Crowd) -> Row:
    """Stop all, and start them as a boot does."""
    shown = node.show("systemctl", "list-units", "--plain", "--no-legend", "app-*.s*")
    names = [line.split()[0] for line in shown.splitlines()]
    node.run("systemctl", "stop", "--", *names)
    began = time.monotonic()
    node.run("systemctl", "start", "--no-block", "--", *names)
    await_answers(node, *crowd.urls())
    return {"boot_s": time.monotonic() - began}


def _units(workdir: Path, crowd: Crowd) -> Row:
    with nodes.node(workdir, nodes.SYSTEMD) as node:
        before = pss(family(node.first))
        for name, port in zip(crowd.names, crowd.ports, strict=True):
            program = webserver.put(node.root / "srv" / name, name)
            inside = Path("/") / program.relative_to(node.root)
            unit = node.root / f"etc/systemd/system/{name}.service"
            unit.write_text(webserver.unit(inside, port))
        node.run("systemctl", "daemon-reload")
        began = time.monotonic()
        for name in crowd.names:
            node.run("systemctl", "start", f"{name}.service")
        await_answers(node, *crowd.urls())
        row: Row = {"install_s": time.monotonic() - began}
        return row | _boot(node, crowd) | memory_of(family(node.first), crowd.count, before)


def _containers(workdir: Path, crowd: Crowd, count: int) -> Row:
    image = "localhost/web:1.0"
    with fresh_disk(workdir) as disk:
        run([command("tar", "-C", crowd.tree, "-cf", disk / "tree.tar", "."),
             podman(disk, "import", "-q", disk / "tree.tar", image)])  # fmt: skip
        began = time.monotonic()
        try:
            for name, port in zip(crowd.names[:count], crowd.ports, strict=False):
                run([start_container(disk, name, image, port)])
            await_answers(nodes.here(), *crowd.urls(count))
            row: Row = {"install_s": time.monotonic() - began}
            return row | memory_of(families(str(disk)), count, factor=crowd.count / count)
        finally:
            run([podman(disk, "stop", "--all"), podman(disk, "rm", "--all")])
