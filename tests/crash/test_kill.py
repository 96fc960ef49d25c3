"""Killed at any system call: the node is old or new, complete, and a second run finishes.

strace ends the process as it enters the Nth call of one kind, for each kind of call that changes
a disk and each N until the run ends by itself. By default some of the more numerous calls are left
out; `APPB_CRASH_EVERY=1` leaves out none.
"""

import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from .support import (
    NOW,
    Looks,
    Node,
    argv,
    hello,
    make_bundle,
    memory_directory,
    new_node,
    run_cli,
)

EVERY = os.environ.get("APPB_CRASH_EVERY") == "1"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace"),
]

KINDS = {
    "rename,renameat,renameat2": 1,
    "link,linkat": 1,
    "syncfs": 1,
    "symlink,symlinkat": 1,
    "rmdir": 2,
    "unlink,unlinkat": 3,
    "fsync,fdatasync": 2,
    "mkdir,mkdirat": 60,
    "write,pwrite64,ftruncate": 4,
    "chmod,fchmod": 4,
    "flock,fork,vfork,clone,clone3": 2,
    "close": 70,
}
"""Kinds of calls, and which of them are tried by default: every first, second, …

`close` stands for everything between the others: opening with O_CREAT cannot be told from reading.
"""


@dataclass(frozen=True)
class Case:
    """A command, the node that it starts from, and what may be found after its death.

    Args:
        arguments: Of `appb`.
        before: The looks of the node; what must be unchanged if nothing happened.
        allowed: Whether looks are those of the old node or of the new one.
        done: Whether looks are what the command was to achieve.
        sound_before: Whether the node verifies before the command has finished.
    """

    template: Path
    arguments: tuple[str, ...]
    before: Looks
    allowed: Callable[[Looks], bool]
    done: Callable[[Looks], bool]
    sound_before: bool = True
    again_may_miss: bool = False


@pytest.fixture
def memory() -> Iterator[Path]:
    """A scratch directory in memory."""
    with memory_directory() as path:
        yield path


def _base(memory: Path) -> Node:
    """A node with hello 1 to 3 (2 is current, its parent had 1) and another app."""
    node = new_node(memory / "template")
    for number in (1, 2, 3):
        bundle = make_bundle(memory, "hello", f"{number}.0", release=number)
        node.install(bundle, now=NOW - 100 + number, switch_to=number < 3)
    node.install(make_bundle(memory, "other", "1.0", tree=hello("other")), now=NOW)
    return node


def _kill_at_every_call(case: Case, memory: Path) -> dict[str, int]:
    """Try one kind of call after the other; gives how often the command died at each."""
    deaths = {}
    for kind, stride in KINDS.items():
        number, count = 1, 0
        while _dies(case, memory, kind, number):
            count += 1
            number += 1 if EVERY else stride
        deaths[kind] = count
    return deaths


def _dies(case: Case, memory: Path, kind: str, number: int) -> bool:
    """Run a case with a death at one call, and check the node; false if it did not come to it."""
    root = memory / "node"
    subprocess.run(["cp", "-a", case.template, root], check=True)
    try:
        node = Node(root)
        inject = f"inject={kind}:signal=KILL:when={number}"
        run = subprocess.run(
            [
                *("strace", "-f", "-qq", "-o", "/dev/null", "-e", f"trace={kind}", "-e", inject),
                *argv(node, *case.arguments),
            ],
            capture_output=True,
            timeout=60,
            env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        )
        where = f"{kind} {number}: {run.stderr.decode()}"
        killed = run.returncode == -signal.SIGKILL
        # A worker that was killed is an error of the command, which lives on.
        assert killed or run.returncode in (0, 1), where
        assert killed or run.returncode == 0 or "was killed" in where, where
        _check(case, node, where)
        return run.returncode != 0
    finally:
        shutil.rmtree(root)


def _check(case: Case, node: Node, where: str) -> None:
    looks = node.looks()
    assert case.allowed(looks), f"{where}{looks}"
    if case.sound_before:
        assert node.problems() == {}, where
    again = run_cli(node, *case.arguments)
    expected = (0, 10) if case.again_may_miss else (0,)
    assert again.status in expected, f"{where}{again}"
    assert case.done(node.looks()), f"{where}{node.looks()}"
    assert node.problems() == {}, where
    assert node.leftovers() == [], where


def _report(case: Case, deaths: dict[str, int]) -> None:
    print(f"\n{case.arguments[0]}: died {sum(deaths.values())} times: {deaths}")
    assert sum(deaths.values()) >= 5


def test_install(memory: Path) -> None:
    """An installation that dies leaves the old generation or the new one."""
    node = _base(memory)
    before = node.looks()
    commands = {"greet": ("/bin/hello",)}
    bundle = make_bundle(memory, "hello", "4.0", release=4, commands=commands)
    new = before.apps | {"hello": "4.0"}
    case = Case(
        node.root,
        ("install", str(bundle)),
        before,
        allowed=lambda it: (
            it.apps in (before.apps, new)
            and before.versions <= it.versions
            and it.versions <= before.versions | {("hello", "4.0")}
        ),
        done=lambda it: it.apps == new and it.versions == before.versions | {("hello", "4.0")},
    )
    _report(case, _kill_at_every_call(case, memory))


def test_first_install(memory: Path) -> None:
    """The very first installation, which makes the node's directories, is no exception."""
    node = new_node(memory / "template")
    before = node.looks()
    bundles = [make_bundle(memory, name, "1.0", tree={"a": b"1"}) for name in ("one", "two")]
    new = {"one": "1.0", "two": "1.0"}
    case = Case(
        node.root,
        ("install", *map(str, bundles)),
        before,
        allowed=lambda it: it.apps in ({}, new) and it.versions <= set(new.items()),
        done=lambda it: it.apps == new and it.versions == set(new.items()),
    )
    _report(case, _kill_at_every_call(case, memory))


def test_switch(memory: Path) -> None:
    """A switch that dies has happened or has not."""
    node = _base(memory)
    before = node.looks()
    new = before.apps | {"hello": "3.0"}
    case = Case(
        node.root,
        ("switch", "hello@3.0"),
        before,
        allowed=lambda it: it.apps in (before.apps, new) and it.versions == before.versions,
        done=lambda it: it.apps == new and it.versions == before.versions,
    )
    _report(case, _kill_at_every_call(case, memory))


def test_switch_previous_app(memory: Path) -> None:
    """So it is with one app that goes back."""
    node = _base(memory)
    before = node.looks()
    new = before.apps | {"hello": "1.0"}
    case = Case(
        node.root,
        ("switch", "--previous", "hello"),
        before,
        allowed=lambda it: it.apps in (before.apps, new) and it.versions == before.versions,
        # Dead after its one rename, it has happened; then a second run has nowhere to go.
        done=lambda it: it.apps == new and it.versions == before.versions,
        again_may_miss=True,
    )
    _report(case, _kill_at_every_call(case, memory))


def test_switch_to(memory: Path) -> None:
    """So it is with a generation's number, which makes no new generation."""
    node = _base(memory)
    before = node.looks()
    case = Case(
        node.root,
        ("switch", "--to", "1"),
        before,
        allowed=lambda it: it.current in (before.current, 1) and it.versions == before.versions,
        done=lambda it: it.current == 1 and it.generations == before.generations,
    )
    _report(case, _kill_at_every_call(case, memory))


def test_remove_version(memory: Path) -> None:
    """A removal that dies leaves the version whole or gone; no other one is touched."""
    node = _base(memory)
    before = node.looks()
    after = before.versions - {("hello", "3.0")}
    case = Case(
        node.root,
        ("remove", "hello@3.0"),
        before,
        allowed=lambda it: it.apps == before.apps and it.versions in (before.versions, after),
        done=lambda it: it.apps == before.apps and it.versions == after,
        again_may_miss=True,
    )
    _report(case, _kill_at_every_call(case, memory))


def test_remove_app(memory: Path) -> None:
    """Removing an app first takes it out of what runs, then its versions."""
    node = _base(memory)
    before = node.looks()
    others = frozenset(each for each in before.versions if each[0] != "hello")
    case = Case(
        node.root,
        ("remove", "hello"),
        before,
        allowed=lambda it: (
            (
                others <= it.versions <= before.versions
                and (it.apps == before.apps and it.versions == before.versions)
            )
            or it.apps == {"other": "1.0"}
        ),
        done=lambda it: it.apps == {"other": "1.0"} and it.versions == others,
        again_may_miss=True,
    )
    _report(case, _kill_at_every_call(case, memory))


def test_gc(memory: Path) -> None:
    """Collecting garbage that dies has taken only what was to go."""
    node = _base(memory)
    make = {n: make_bundle(memory, "hello", f"{n}.0", release=n) for n in (4, 5)}
    for number, bundle in make.items():
        node.install(bundle, now=NOW + number)
    before = node.looks()
    kept = frozenset({("hello", "4.0"), ("hello", "5.0"), ("other", "1.0")})
    case = Case(
        node.root,
        ("gc", "--keep", "1", "--older-than", "0"),
        before,
        allowed=lambda it: it.apps == before.apps and kept <= it.versions <= before.versions,
        done=lambda it: it.apps == before.apps and it.versions == kept,
    )
    _report(case, _kill_at_every_call(case, memory))


def test_repair(memory: Path) -> None:
    """A repair that dies can be repeated, also for the versions that shared the damage."""
    node = _base(memory)
    before = node.looks()
    shared = node.version("hello", "2.0") / "share/common"
    shared.write_bytes(b"damaged\n")
    (node.version("hello", "2.0") / "share/version").unlink()
    case = Case(
        node.root,
        ("repair", str(memory / "hello-2.0.bundle")),
        before,
        allowed=lambda it: it == before,
        done=lambda it: it == before,
        sound_before=False,
    )
    _report(case, _kill_at_every_call(case, memory))
