"""Two at once, as real processes: one changes the node, the other waits or says for whom."""

import json
import os
import random
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from .support import Node, argv, make_bundle

PATIENCE_S = 30.0
"""After this a test that waits for something has failed."""


@pytest.fixture
def node(node: Node, memory: Path) -> Node:
    """A node that runs one 1, and has the bundles of slow 1 and quick 1 beside it."""
    noise = random.Random(1)
    make_bundle(memory, "quick", "1")
    make_bundle(memory, "slow", "1", tree={f"{n}": noise.randbytes(300_000) for n in range(20)})
    node.install(make_bundle(memory, "one", "1"))
    return node


def _start(node: Node, *arguments: str, stdin: int = subprocess.DEVNULL) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        argv(node, *arguments), stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def _run(node: Node, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        argv(node, *arguments), capture_output=True, text=True, timeout=PATIENCE_S
    )


def _wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, "it does not happen"
        time.sleep(0.01)


class Slow:
    """An installation from a pipe, which has come as far as the bytes that it was given."""

    def __init__(self, node: Node, bundle: Path) -> None:
        self.process = _start(node, "install", "-", stdin=subprocess.PIPE)
        self._rest = bundle.read_bytes()
        _wait_for(lambda: self.name in node.layout.lock.read_text())

    @property
    def name(self) -> str:
        """What others call it."""
        return f"install (process {self.process.pid})"

    def unpack_nearly_all(self) -> None:
        """Let it come so far that its workers have written most files."""
        self._feed(len(self._rest) - 100)
        assert Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()

    def finish(self) -> int:
        """Give it the rest, and its exit status."""
        self._feed(len(self._rest))
        self.process.communicate(timeout=PATIENCE_S)
        return self.process.returncode

    def _feed(self, size: int) -> None:
        assert self.process.stdin
        # Writing ends when all but what a pipe holds was read.
        self.process.stdin.write(self._rest[:size])
        self.process.stdin.flush()
        self._rest = self._rest[size:]


@contextmanager
def _slowly_installing(node: Node) -> Iterator[Slow]:
    slow = Slow(node, node.root.parent / "slow-1.bundle")
    try:
        yield slow
    finally:
        slow.process.kill()
        slow.process.communicate()


def test_second_waits_and_says_for_whom(node: Node, memory: Path) -> None:
    """Two installations at once: one waits, names the other, and then both are done."""
    with _slowly_installing(node) as slow:
        second = _start(node, "install", str(memory / "quick-1.bundle"))
        assert second.stderr
        assert second.stderr.readline().decode() == f"waiting for: {slow.name}\n"
        assert node.looks().apps == {"one": "1"}
        assert slow.finish() == 0
        said = second.communicate(timeout=PATIENCE_S)
        assert second.returncode == 0, said
    looks = node.looks()
    assert looks.apps == {"one": "1", "slow": "1", "quick": "1"}
    assert looks.current == looks.generations[-1] == 3
    assert node.problems() == {}


@pytest.mark.parametrize(
    "command",
    ["install {quick}", "switch one@1", "switch --previous", "remove one", "gc", "pin one@1"],
)
def test_who_does_not_wait_is_told_for_whom(node: Node, memory: Path, command: str) -> None:
    """With --lock-timeout 0 whatever changes the node ends at once with 11 and changes nothing."""
    with _slowly_installing(node) as slow:
        before = node.looks()
        words = command.format(quick=memory / "quick-1.bundle").split()
        said = _run(node, "--lock-timeout", "0", "--json", *words)
        error = json.loads(said.stdout)["error"]
        assert (said.returncode, error["kind"]) == (11, "locked")
        assert slow.name in error["what"]
        assert node.looks() == before


@pytest.mark.parametrize(
    "command", ["list", "history", "info one", "verify", "gc --dry-run", "switch one@1 --dry-run"]
)
def test_looking_waits_for_nobody(node: Node, command: str) -> None:
    """What changes nothing needs no lock, and sees the old node."""
    with _slowly_installing(node) as slow:
        slow.unpack_nearly_all()
        said = _run(node, "--lock-timeout", "0", *command.split())
        assert said.returncode == 0, said


def test_lock_of_a_killed_installation_is_free(node: Node, memory: Path) -> None:
    """Killed while its workers write, it leaves neither lock nor files to the next command."""
    with _slowly_installing(node) as slow:
        slow.unpack_nearly_all()
        assert node.leftovers() != []
        slow.process.kill()
        said = _run(node, "install", str(memory / "quick-1.bundle"))
    assert said.returncode == 0, said
    assert node.leftovers() == []
    assert node.looks().apps == {"one": "1", "quick": "1"}
    assert node.problems() == {}


def test_many_at_once_all_get_their_turn(node: Node, memory: Path) -> None:
    """Each of several commands at once makes its own generation on top of another's."""
    bundles = [make_bundle(memory, f"app-{n}", "1", tree={"n": b"%d" % n}) for n in range(5)]
    running = [_start(node, "install", str(bundle)) for bundle in bundles]
    for each in running:
        said = each.communicate(timeout=PATIENCE_S)
        assert each.returncode == 0, said
    looks = node.looks()
    assert set(looks.apps) == {"one", *(f"app-{n}" for n in range(5))}
    assert looks.generations == tuple(range(1, 7))
    assert node.problems() == {}


def test_lock_file_is_the_owner_s(node: Node) -> None:
    """Row 60: nobody else can open the node's lock and hold it for ever."""
    assert os.lstat(node.layout.lock).st_mode & 0o777 == 0o600
