"""The next release over a network: bytes fetched in all, beside other tools; and from nothing."""

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

import product
import signing
from contest import Contestant, Sample, take_turns, talk
from disk import fresh_disk, settle
from fetchers import FETCHERS, REGISTRY, Fetcher, push_images, said_by
from measure import ChildFailed, Command, Usage, command, run
from network import slow_loopback
from nginx import Server, registry, serving
from peers import Release
from product import APPB, appb
from results import Column, Row, Table, median
from session import Session

from bundles import read_manifest

_RATE = "20mbit"
_WHOLE = "curl, appb install FILE"


def measure(session: Session) -> list[Table]:
    """Bytes of an upgrade by every tool; times of appb against fetching the whole file."""
    return [_bytes(session), _times(session)]


# Bytes of an upgrade


def _bytes(session: Session) -> Table:
    table = Table(
        name="delta",
        title=f"Fetched for {session.old.version} → {session.new.version}",
        columns=(
            Column("name", "Tool"),
            Column("fetched_bytes", "bytes"),
            Column("fetched_mb", "MB", "MB"),
            Column("requests", "requests"),
            Column("seconds", "seconds", "s"),
        ),
        notes=[
            "Bytes as the web server counts them, both ways, headers included; rsync counts itself."
        ],
    )
    table.rows.append(_upgrade_by_appb(session))
    for fetcher in filter(lambda each: session.wants(each.name), FETCHERS):
        if not fetcher.available():
            talk(f"{fetcher.name}: not installed, skipped")
            continue
        try:
            table.rows.append(_upgrade_by(fetcher, session))
        except ChildFailed as error:
            talk(f"{fetcher.name} FAILED: {error}")
    table.rows.sort(key=lambda row: int(str(row["fetched_bytes"])))
    return table


def _row(name: str, size: int, requests: int | None, usage: Usage | None) -> Row:
    talk(f"delta: {name}: {size} bytes")
    return {
        "name": name,
        "fetched_bytes": size,
        "fetched_mb": size,
        "requests": requests,
        "seconds": usage.seconds if usage else None,
    }


def _upgrade_by_appb(session: Session) -> Row:
    scratch = session.workdir / "web"
    with fresh_disk(session.workdir) as disk:
        with _published(session, session.old) as repository:
            with serving(repository, scratch) as server:
                _use(session, disk, repository, server)
                run([appb("-q", "install", _name(session), root=disk)])
            _publish(session, repository, session.new)
            settle()
            with serving(repository, scratch, port=server.port) as server:
                usage = run([appb("-q", "upgrade", root=disk)])
    return _row("appb upgrade", server.fetched_bytes, server.requests, usage)


def _upgrade_by(fetcher: Fetcher, session: Session) -> Row:
    www, work = session.workdir / "www", session.workdir / "work"
    for each in (www, work):
        shutil.rmtree(each, ignore_errors=True)
        each.mkdir()
    try:
        fetcher.publish(www, session.old, session.new)
        with _registry_of(fetcher, session, www) as port:
            return _measure_fetch(fetcher, session, www, work, port)
    finally:
        for each in (www, work):
            shutil.rmtree(each)


@contextlib.contextmanager
def _registry_of(fetcher: Fetcher, session: Session, www: Path) -> Iterator[int]:
    if fetcher.name != REGISTRY:
        yield 9
        return
    with registry(www / "registry", session.workdir / "web") as port:
        push_images(www, port, (session.old, session.new))
        yield port


def _measure_fetch(fetcher: Fetcher, session: Session, www: Path, work: Path, port: int) -> Row:
    scratch = session.workdir / "web"
    if fetcher.counts_itself:
        fetcher.seed("", work, session.old)
        chain = fetcher.fetch(f"file://{www}", work, session.old, session.new)
        said = said_by(chain)
        return _row(fetcher.name, fetcher.counts_itself(said), None, None)
    with serving(www, scratch, registry=port) as server:
        fetcher.seed(server.url, work, session.old)
    with serving(www, scratch, registry=port, port=server.port) as server:
        usage = run(fetcher.fetch(server.url, work, session.old, session.new))
    return _row(fetcher.name, server.fetched_bytes, server.requests, usage)


# Times: from nothing on a fast link, an upgrade on a slow one


def _times(session: Session) -> Table:
    table = Table(
        name="delta-times",
        title=f"From a repository: {session.describe(session.new)}",
        columns=(
            Column("name", "What"),
            Column("seconds", "seconds", "s"),
            Column("ratio", "ratio to the whole file", "ratio"),
        ),
        notes=[f"A slow link lets {_RATE}/s through, both ways together."],
    )
    with _published(session, session.old) as repository:
        _publish(session, repository, session.new)
        version = f"{_name(session)}@{session.new.version}"
        fast = [
            _contestant(session, repository, APPB + " NAME", previous=None, install=version),
            _contestant(session, repository, _WHOLE, previous=None, install=None),
        ]
        _add_rows(table, "fast link, from nothing", take_turns("delta", fast, session.rounds))
        with contextlib.ExitStack() as stack:
            try:
                within = stack.enter_context(slow_loopback(_RATE))
            except ChildFailed as error:
                talk(f"no slow link can be made here: {error}")
                return table
            old, rounds = session.old, min(2, session.rounds)
            slow = [
                _contestant(
                    *(session, repository, APPB + " NAME"),
                    previous=old,
                    install=version,
                    within=within,
                ),
                _contestant(
                    *(session, repository, _WHOLE), previous=old, install=None, within=within
                ),
            ]
            _add_rows(table, f"{_RATE}/s, upgrade", take_turns("delta, slow", slow, rounds))
    return table


def _add_rows(table: Table, title: str, samples: dict[str, list[Sample]]) -> None:
    times = {name: median([s.usage.seconds for s in each]) for name, each in samples.items()}
    for name, seconds in times.items():
        whole = times.get(_WHOLE)
        table.rows.append(
            {
                "name": f"{title}: {name}",
                "seconds": seconds,
                "ratio": seconds / whole if whole else None,
                "all_seconds": [sample.usage.seconds for sample in samples[name]],
            }
        )


def _contestant(
    session: Session,
    repository: Path,
    name: str,
    *,
    previous: Release | None,
    install: str | None,
    within: list[str] | None = None,
) -> Contestant:
    """Something that brings the new release onto a disk, from a server that starts with it.

    Args:
        install: What appb is told to install; None to fetch the file first.
    """
    inside = within or []

    def act() -> Sample:
        with (
            fresh_disk(session.workdir) as disk,
            serving(repository, session.workdir / "web", within=inside) as server,
        ):
            _use(session, disk, repository, server, inside)
            if previous is not None:
                run([appb("-q", "install", previous.bundle, root=disk)])
            settle()
            chain = _commands(session, repository, disk, server, install)
            return Sample(usage=run([_inside(inside, each) for each in chain]))

    return Contestant(name, act)


def _commands(
    session: Session, repository: Path, disk: Path, server: Server, install: str | None
) -> list[Command]:
    if install is not None:
        return [appb("-q", "install", install, root=disk)]
    (path,) = repository.glob(f"targets/*/*-{session.new.version}.bundle")
    file = disk / "new.bundle"
    return [
        command("curl", "-sf", "-o", file, f"{server.url}/{path.relative_to(repository)}"),
        appb("-q", "install", file, root=disk),
    ]


def _inside(words: list[str], each: Command) -> Command:
    return Command(argv=(*words, *each.argv), env=each.env, stdin=each.stdin)


# A repository


@contextlib.contextmanager
def _published(session: Session, release: Release) -> Iterator[Path]:
    """Make a repository with a release."""
    repository = session.workdir / "repository"
    shutil.rmtree(repository, ignore_errors=True)
    repository.with_name("repository.online-key").unlink(missing_ok=True)
    _publish(session, repository, release)
    try:
        yield repository
    finally:
        shutil.rmtree(repository)


def _publish(session: Session, repository: Path, release: Release) -> None:
    key = signing.key_file(session.workdir)
    run([appb("-q", "publish", release.bundle, "--repo", repository, "--key", key)])


def _use(
    session: Session, disk: Path, repository: Path, server: Server, within: list[str] | None = None
) -> None:
    """Let a node use the repository, and trust what the bench signs as files too."""
    signing.trust(disk, session.workdir)
    run([_inside(within or [], product.use_repository(disk, repository, server.url))])


def _name(session: Session) -> str:
    return read_manifest(session.new.bundle).name
