"""How much memory an install takes, and that a larger bundle takes no more."""

import random
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import signing
from contest import Contestant, on_fresh_disk, take_turns, talk
from peers import Peer, Release
from product import contents_of
from results import Column, Table
from session import Session

from bundles import write_bundle

_WITH_LARGE = ("appb install", "tar --zstd -x", "unsquashfs", "nix-store --import")
"""Who takes the large bundle too: the other archives would take minutes to make."""
_PATTERN = 64 << 10
_SEED = 20


def measure(session: Session) -> list[Table]:
    """The product and a few peers, on the release and on a large generated bundle."""
    table = Table(
        name="memory",
        title="Peak memory of an install",
        columns=(
            Column("name", "Tool"),
            Column("release", "what"),
            Column("pss_bytes", "all processes, MB", "MB"),
            Column("rss_bytes", "largest process, MB", "MB"),
            Column("seconds", "seconds", "s"),
        ),
        notes=[
            "All processes: the largest sum of proportional set sizes, looked at every 10 ms; "
            "pages that processes share count once.",
            "Largest process: its largest resident set, pages shared with others included.",
        ],
    )
    _measure_release(session, table, session.describe(session.new), session.new)
    title = f"generated, {session.large_bytes / 1e9:.1f} GB"
    _measure_release(session, table, title, large_release(session), among=_WITH_LARGE)
    return [table]


def _measure_release(
    session: Session,
    table: Table,
    title: str,
    release: Release,
    *,
    among: Sequence[str] | None = None,
) -> None:
    tools = session.tools(release, among=among)

    def contestant(tool: Peer) -> Contestant:
        return Contestant(
            tool.name, lambda: on_fresh_disk(session.workdir, tool, [release], sample_memory=True)
        )

    samples = take_turns(f"memory, {title}", [contestant(t) for t in tools], min(2, session.rounds))
    for tool in tools:
        if own := samples.get(tool.name):
            table.rows.append(
                {
                    "name": tool.name,
                    "release": title,
                    "pss_bytes": max(sample.usage.peak_pss_bytes for sample in own),
                    "rss_bytes": max(sample.usage.peak_rss_bytes for sample in own),
                    "seconds": min(sample.usage.seconds for sample in own),
                }
            )


def large_release(session: Session) -> Release:
    """A release of half one big file, half files of all sizes; made once in a work directory."""
    cache = session.workdir / f"large-{session.large_bytes}"
    tree, bundle = cache / "tree", cache / "large.bundle"
    if not bundle.exists():
        talk("memory: making the large bundle")
        shutil.rmtree(cache, ignore_errors=True)
        tree.mkdir(parents=True)
        _write_tree(tree, session.large_bytes)
        unfinished = cache / "unfinished"
        write_bundle(
            unfinished,
            name="large",
            version="1.0",
            release=1,
            contents=contents_of(tree),
            sign=signing.signer(session.workdir),
        )
        unfinished.rename(bundle)
    return Release(name="large", version="1.0", tree=tree, cache=cache, bundle=bundle)


def _write_tree(tree: Path, size_bytes: int) -> None:
    chance = random.Random(_SEED)
    (tree / "big").mkdir()
    _write_file(tree / "big/file", size_bytes // 2, chance)
    left, number = size_bytes - size_bytes // 2, 0
    while left > 0:
        size = min(left, int(chance.choice((2e3, 2e4, 2e5, 2e6, 2e7)) * (0.5 + chance.random())))
        directory = tree / f"mixed/{number % 50:02}"
        directory.mkdir(parents=True, exist_ok=True)
        _write_file(directory / f"{number:05}", size, chance)
        left, number = left - size, number + 1


def _write_file(path: Path, size: int, chance: random.Random) -> None:
    with path.open("wb") as out:
        for piece in _pieces(size, chance):
            out.write(piece)


def _pieces(size: int, chance: random.Random) -> Iterator[bytes]:
    """Half of it is noise, half compresses well."""
    while size > 0:
        piece = chance.randbytes(_PATTERN) + b"the same text again; " * (_PATTERN // 21)
        yield piece[:size]
        size -= len(piece)
