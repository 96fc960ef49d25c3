"""What clients of a service see while it is upgraded, switched back, or saved from a bad release.

Beside it, what they see while the same server is replaced by other means: see `replacing`.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Literal

import msgspec
import nodes
import product
import replacing
import signing
import webserver
from contest import talk
from load import CLIENTS, await_answers, load
from measure import ChildFailed
from nodes import Node
from peers import Release
from replacing import Served
from results import Column, Row, Table
from session import Session

from appbundle.bundle import filling
from appbundle.bundle.manifest import Manifest
from appbundle.bundle.services import Health, Service
from bundles import declare, read_manifest

_TURNS = 4
"""Twenty tries in five rounds."""
_PAUSE_S = 0.5
"""Whatever replaces the service, it serves so long before it is replaced again."""
_NEVER = Health(tcp="127.0.0.1:1", grace_s=0, attempts=2)
_UNHEALTHY = 30


def measure(session: Session) -> list[Table]:
    """One table; every row is under the same load."""
    table = Table(
        name="load",
        title=f"Replaced under load: {CLIENTS} clients, half keep their connection",
        columns=(
            Column("name", "What is done"),
            Column("changes", "times"),
            Column("requests", "requests"),
            Column("failed", "failed"),
            Column("worst_s", "worst, ms", "ms"),
            Column("normal_s", "worst without, ms", "ms"),
            Column("over_s", "difference, ms", "ms"),
            Column("ratio", "ratio", "ratio"),
            Column("gap_s", "longest without an answer, ms", "ms"),
        ),
        notes=[
            "Worst: of the requests that were answered. Without: of as much time in which nothing "
            "was done."
        ],
    )
    tries = max(1, session.rounds * _TURNS)
    for name, served in _ways(session):
        try:
            with served as server:
                table.rows.append({"name": name} | under_load(name, server, tries))
        except (ChildFailed, OSError) as error:
            talk(f"load: {name} FAILED: {error}")
            table.notes.append(f"not measured: {name}: {str(error).splitlines()[0]}")
    for way in replacing.WAYS:
        if why := way.why_not(session.keepers):
            table.notes.append(f"not measured here: {way.name}: {why}")
    return [table]


def _ways(session: Session) -> Iterator[tuple[str, AbstractContextManager[Served]]]:
    workdir, given = session.workdir, session.given
    if given:
        old, new = (product.release_of_bundle(bundle, workdir) for bundle in given)
    else:
        old, new = webserver.releases(workdir, webserver.free_port())
    ours = (workdir, session.keepers[0], old, new)
    yield "appb: upgrade and back, overlap", _upgrades(*ours, change="overlap")
    yield "appb: upgrade and back, restart", _upgrades(*ours, change="restart")
    yield "appb: release that is never healthy", _reverts(*ours)
    # A bundle of somebody's cannot be run by anybody else.
    for way in () if given else replacing.WAYS:
        if session.wants(way.name) and not way.why_not(session.keepers):
            yield way.name, way.serve(workdir, old, new)


def under_load(name: str, served: Served, tries: int) -> Row:
    """Replace a server so many times while it is asked, then only ask it for as long."""
    await_answers(served.node, served.url)
    began = time.monotonic()
    with load(served.node, served.url) as changed:
        for number in range(tries):
            for step in served.steps:
                step()
                time.sleep(_PAUSE_S)
            talk(f"{name}: {number + 1}/{tries}")
        seconds = time.monotonic() - began
    with load(served.node, served.url) as normal:
        time.sleep(seconds)
    worst, usual = changed.found["worst_s"], normal.found["worst_s"]
    if worst is None or usual is None:
        raise ChildFailed(f"no request was answered: {changed.found['errors']}")
    errors = ", ".join(f"{count} x {what}" for what, count in changed.found.pop("errors").items())
    return {
        "changes": tries * len(served.steps),
        "seconds": seconds,
        **changed.found,
        "errors": errors,
        "normal_s": usual,
        "normal_failed": normal.found["failed"],
        "over_s": worst - usual,
        "ratio": worst / usual,
    }


@contextmanager
def _upgrades(
    workdir: Path, keeper: str, old: Release, new: Release, *, change: Literal["overlap", "restart"]
) -> Iterator[Served]:
    """Each time the new release is installed, left again, and removed."""
    with _installed(workdir, keeper, old, change) as (node, manifest, url):
        bundle = _declared(workdir, new, change=change)

        def back() -> None:
            node.run_appb("switch", "--previous")
            node.run_appb("remove", f"{manifest.name}@{new.version}")

        yield Served(node, url, (lambda: node.run_appb("install", bundle), back))


@contextmanager
def _reverts(workdir: Path, keeper: str, old: Release, new: Release) -> Iterator[Served]:
    """Each time a release is installed that answers with errors, and appb must go back."""
    with _installed(workdir, keeper, old, "overlap") as (node, manifest, url):
        bundle = _declared(workdir, new, change="overlap", broken=True)

        def fail() -> None:
            node.run_appb("install", bundle, status=_UNHEALTHY)
            node.run_appb("remove", f"{manifest.name}@{new.version}")

        yield Served(node, url, (fail,))


@contextmanager
def _installed(
    workdir: Path, keeper: str, release: Release, change: Literal["overlap", "restart"]
) -> Iterator[tuple[Node, Manifest, str]]:
    manifest = read_manifest(release.bundle)
    with nodes.node(workdir, keeper) as node:
        node.run_appb("install", _declared(workdir, release, change=change))
        yield node, manifest, _url(manifest)


def _declared(
    workdir: Path,
    release: Release,
    *,
    change: Literal["overlap", "restart"],
    broken: bool = False,
) -> Path:
    """A release as a bundle whose service is changed in one way or another."""
    manifest = read_manifest(release.bundle)
    main = _main(manifest.services)
    changed = msgspec.structs.replace(main, change=change)
    if broken:
        changed = msgspec.structs.replace(
            changed, health=_NEVER, environment={**main.environment, "BROKEN": "1"}
        )
    target = workdir / f"declared-{release.version}.bundle"
    declare(
        release.bundle,
        target,
        sign=signing.signer(workdir),
        services=[changed if each is main else each for each in manifest.services],
    )
    return target


def _main(services: Sequence[Service]) -> Service:
    """The service that has a socket, and tells over HTTP how it is."""
    for each in services:
        if each.sockets and each.health and each.health.http:
            return each
    raise ChildFailed("the bundle has no service with a socket that is asked over HTTP")


def _url(manifest: Manifest) -> str:
    health = _main(manifest.services).health
    assert health
    return filling.fill(health.http, {each.name: each.default for each in manifest.settings})
