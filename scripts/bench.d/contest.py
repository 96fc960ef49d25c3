"""Contestants take turns in whole rounds; the order rotates, so that no one has the best place."""

import contextlib
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from disk import NOTHING, Space, fresh_disk, settle, space, warm
from measure import ChildFailed, Command, Usage, run, sync_filesystem
from peers import Peer, Release, install, prepared
from results import median


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One measurement.

    Args:
        usage: Of the timed commands; with peers, syncfs(2) is among them.
        flush_seconds: What a syncfs(2) takes after a tool that is timed without it.
        added: What the file system has in use more than before.
    """

    usage: Usage
    flush_seconds: float = 0.0
    added: Space = NOTHING


@dataclass(frozen=True, slots=True)
class Contestant:
    """Something to measure, again and again."""

    name: str
    measure: Callable[[], Sample]


def talk(text: str) -> None:
    """Say on stderr what goes on."""
    print(f"bench: {text}", file=sys.stderr, flush=True)


def take_turns(
    title: str, contestants: Sequence[Contestant], rounds: int, *, quiet: bool = False
) -> dict[str, list[Sample]]:
    """Measure everyone once a round; who fails is named, and is left out from then on.

    Args:
        quiet: Don't tell every single time.
    """
    samples: dict[str, list[Sample]] = {each.name: [] for each in contestants}
    # Whatever runs first after other work is slower, by up to a half; so let that not count.
    with contextlib.suppress(ChildFailed):
        contestants[0].measure()
    for number in range(rounds):
        shift = number % len(contestants)
        for each in [*contestants[shift:], *contestants[:shift]]:
            if each.name not in samples:
                continue
            try:
                sample = each.measure()
            except ChildFailed as error:
                talk(f"{title}: {each.name} FAILED: {error}")
                del samples[each.name]
                continue
            samples[each.name].append(sample)
            if not quiet:
                talk(f"{title}, {number + 1}/{rounds}: {each.name}: {sample.usage.seconds:.3f} s")
    return samples


def on_fresh_disk(
    workdir: Path,
    peer: Peer,
    releases: Sequence[Release],
    *,
    previous: Sequence[Release] = (),
    durable_itself: bool = False,
    sample_memory: bool = False,
) -> Sample:
    """Measure a tool that puts releases on an empty disk, or beside those before.

    Args:
        previous: Installed first, untimed.
        durable_itself: The tool's own end is the end of the time; the flush is told separately.
        sample_memory: Watch the processes' memory meanwhile.
    """
    with fresh_disk(workdir) as disk:
        if peer.set_up:
            peer.set_up(disk)
        if previous:
            run(install(peer, previous, disk))
        warm([prepared(peer, each) for each in releases])
        chain = install(peer, releases, disk, previous)
        before = space(disk)
        settle()
        timed, flush = _timed(chain, disk, durable_itself, sample_memory)
        after = space(disk)
        if not previous:
            _check_complete(disk, releases)
    added = Space(bytes=after.bytes - before.bytes, inodes=after.inodes - before.inodes)
    return Sample(usage=timed, flush_seconds=flush, added=added)


def _timed(
    chain: list[Command], disk: Path, durable_itself: bool, sample_memory: bool
) -> tuple[Usage, float]:
    flush = sync_filesystem(disk)
    if not durable_itself:
        return run([*chain, flush], sample_memory=sample_memory), 0.0
    usage = run(chain, sample_memory=sample_memory)
    return usage, run([flush]).seconds


def _check_complete(disk: Path, releases: Sequence[Release]) -> None:
    """Refuse a result that was fast because files are missing."""
    expected, found = sum(count_files(each.tree) for each in releases), count_files(disk)
    if found < expected:
        raise ChildFailed(f"wrote {found} files of {expected}")


def count_files(tree: Path) -> int:
    """Count regular files."""
    count = 0
    for here, _, names in os.walk(tree):
        count += sum(not os.path.islink(f"{here}/{name}") for name in names)
    return count


def medians(samples: Sequence[Sample]) -> float:
    """The median of the times."""
    return median([sample.usage.seconds for sample in samples])
