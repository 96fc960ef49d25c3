"""The power fails at any moment: what is on the disk by then is a node, old or new, and complete.

Real work runs on a journalled ext4 whose image is a file of an XFS, where a clone of it takes all
blocks at one instant. Each clone is what a power cut at that instant leaves: what the kernel had
not written back is missing. The ext4 is mounted so that it forgives least: it writes metadata
every second, before data and without the favours that it does to careless programs.
"""

import fcntl
import itertools
import os
import random
import select
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from appbundle.system import files, libc

from .disks import make_ext4, make_xfs, mounted, needs_disks
from .support import Content, Looks, Node, make_bundle, memory_directory, new_node, run_cli

pytestmark = [pytest.mark.root, pytest.mark.slow, needs_disks]

CUTS = int(os.environ.get("APPB_POWER_CUTS", "40"))
SEED = int(os.environ.get("APPB_POWER_SEED", "1"))
_MERCILESS = ("commit=1", "data=writeback", "noauto_da_alloc")
_FICLONE = 0x40049409


@dataclass(frozen=True)
class Step:
    """One command of the work, and what the node has when it has finished."""

    command: str
    apps: dict[str, str]
    versions: frozenset[tuple[str, str]]


def _step(command: str, apps: str, versions: str) -> Step:
    pairs = [each.partition("@") for each in versions.split()]
    running = [each.partition("@") for each in apps.split()]
    return Step(command, {n: v for n, _, v in running}, frozenset((n, v) for n, _, v in pairs))


WORK = [
    _step("install one-1 two-1", "one@1 two@1", "one@1 two@1"),
    _step("install one-2", "one@2 two@1", "one@1 one@2 two@1"),
    _step("switch --previous", "one@1 two@1", "one@1 one@2 two@1"),
    _step("switch one@2", "one@2 two@1", "one@1 one@2 two@1"),
    _step("install one-3 --no-switch", "one@2 two@1", "one@1 one@2 one@3 two@1"),
    _step("install two-2 one-3", "one@3 two@2", "one@1 one@2 one@3 two@1 two@2"),
    _step("switch --previous two", "one@3 two@1", "one@1 one@2 one@3 two@1 two@2"),
    _step("remove one@1", "one@3 two@1", "one@2 one@3 two@1 two@2"),
    _step("gc --keep 0 --older-than 0", "one@3 two@1", "one@3 two@1 two@2"),
    _step("remove two", "one@3", "one@3"),
    _step("remove one", "", ""),
]
"""The last step leaves what the first one found, so that the work can go on for ever."""


def _tree(name: str, version: int) -> dict[str, Content]:
    """Some megabytes in some hundred files: half of them common to all versions of an app."""
    files: dict[str, Content] = {}
    for seed, place in ((name, "common"), (f"{name} {version}", "own")):
        source = random.Random(seed)
        for number in range(100):
            size = source.choice((10, 700, 5000, 40_000))
            files[f"{place}/{number % 12}/{number}"] = source.randbytes(size)
    return files


def _bundles(directory: Path) -> dict[str, Path]:
    made = {}
    for name, versions in (("one", (1, 2, 3)), ("two", (1, 2))):
        for version in versions:
            made[f"{name}-{version}"] = make_bundle(
                directory, name, str(version), release=version, tree=_tree(name, version)
            )
    return {**made, "late-1": make_bundle(directory, "late", "1", tree={"late": b"late"})}


def _arguments(step: Step, bundles: dict[str, Path]) -> list[str]:
    words = [str(bundles.get(word, word)) for word in step.command.split()]
    return [*words, "--allow-downgrade"] if words[0] == "install" else words


@dataclass
class Work:
    """A process that takes step after step, round and round, and says when one is done."""

    pid: int
    reports: int
    done: int = 0

    def listen(self) -> int:
        """How many steps are known to have finished."""
        while select.select([self.reports], [], [], 0)[0]:
            told = os.read(self.reports, 4096)
            assert told, f"the work ended by itself after {self.done} steps"
            self.done += len(told)
        return self.done


@contextmanager
def _working(node: Node, bundles: dict[str, Path]) -> Iterator[Work]:
    """Let another process work on a node until the block ends."""
    reports, said = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(reports)
            for step in itertools.cycle(WORK):
                assert run_cli(node, *_arguments(step, bundles)).status == 0, step
                os.write(said, b".")
        finally:
            os._exit(1)
    os.close(said)
    try:
        yield Work(pid, reports)
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(reports)


@dataclass(frozen=True)
class Cut:
    """A disk as the power cut left it.

    Args:
        number: Of the cut, from 1.
        after_s: Since the work began.
        before: Steps that had finished for sure.
        after: One more than the steps that can have finished at all.
    """

    image: Path
    number: int
    after_s: float
    before: int
    after: int

    @property
    def moment(self) -> str:
        """When it was, for whoever reads a failure."""
        steps = " or ".join(f"`{_done(n).command}`" for n in range(self.before + 1, self.after + 1))
        return f"cut {self.number}, after {self.after_s:.3f} s, during {steps}"


def _done(count: int) -> Step:
    """The step that is the last one once so many have finished."""
    return WORK[(count - 1) % len(WORK)]


def _clone(image: Path, copy: Path) -> None:
    """Take all blocks of a file at one instant. See ioctl_ficlone(2)."""
    with image.open("rb") as source, copy.open("xb") as target:
        fcntl.ioctl(target, _FICLONE, source.fileno())


def _cut(image: Path, work: Work, number: int, began: float) -> Cut:
    before = work.listen()
    after_s = time.monotonic() - began
    copy = image.with_name(f"cut-{number}")
    _clone(image, copy)
    return Cut(copy, number, after_s, before, work.listen() + 1)


def _check(cut: Cut, bundles: dict[str, Path]) -> str:
    """Switch the power on again.

    Returns:
        What the node was found to run.
    """
    try:
        with mounted(cut.image) as place:
            return _check_node(Node(place / "node"), cut, bundles)
    except Exception as error:
        error.add_note(f"power {cut.moment}")
        raise


def _check_node(node: Node, cut: Cut, bundles: dict[str, Path]) -> str:
    found = node.looks()
    _check_looks(found, cut)
    assert node.problems() == {}
    next_step = _done(cut.before + 1)
    again = run_cli(node, *_arguments(next_step, bundles))
    # What had happened already cannot always happen once more.
    assert again.status == 0 or (again.status == 10 and found.apps == next_step.apps), again
    late = run_cli(node, "install", str(bundles["late-1"]))
    assert late.status == 0, late
    assert node.looks().apps["late"] == "1"
    assert node.problems() == {}
    assert node.leftovers() == []
    return f"{found}"


def _check_looks(found: Looks, cut: Cut) -> None:
    """What finished is there, what may have begun is there or not, and nothing else is."""
    possible = [_done(count) for count in range(cut.before, cut.after + 1)]
    assert found.apps in [step.apps for step in possible]
    always = frozenset.intersection(*(step.versions for step in possible))
    ever = frozenset.union(*(step.versions for step in possible))
    assert always <= found.versions <= ever


def test_power_cuts() -> None:
    """After a power cut at any moment a node is old or new and verifies, and work goes on."""
    pause = random.Random(SEED)
    with memory_directory() as memory:
        bundles = _bundles(memory)
        with mounted(make_xfs(memory / "host.img", size_bytes=4 << 30)) as host:
            image = make_ext4(host / "disk.img", size_bytes=64 << 20)
            with mounted(image, *_MERCILESS) as disk:
                node = new_node(disk / "node")
                cuts: list[Cut] = []
                with files.directory(disk) as fd:
                    libc.syncfs(fd)
                with _working(node, bundles) as work:
                    began = time.monotonic()
                    # At least one round of all steps, however slow the machine is.
                    while len(cuts) < CUTS or work.listen() < len(WORK):
                        assert len(cuts) < 20 * CUTS, "hardly anything is done"
                        time.sleep(pause.uniform(0, 0.15))
                        cuts.append(_cut(image, work, len(cuts) + 1, began))
            found = {_check(cut, bundles) for cut in cuts}
    assert len(found) > len(WORK) // 2, "the cuts were all at the same moment"
