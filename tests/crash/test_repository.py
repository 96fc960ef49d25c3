"""Killed at any step: readers find the old repository or the new one, and a second run finishes.

The publisher is forked, so that a death costs no start of Python, and ends itself with SIGKILL just
before the Nth call that changes a disk, until it comes to its end. By default some of the more
numerous calls are left out; `APPB_CRASH_EVERY=1` leaves out none.
"""

import itertools
import os
import shutil
import signal
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from tuf.api.exceptions import DownloadError

from appbundle.flows import upkeep
from appbundle.flows.upkeep import Holders
from appbundle.names import AppName
from tests.bundles import new_key
from tests.crash.support import KEY
from tests.repository.publisher import Publisher

Bundle = Callable[[str, int], Path]
Act = Callable[[Publisher], object]
Contents = list[str]

EVERY = os.environ.get("APPB_CRASH_EVERY") == "1"
KINDS = {("rename", "unlink"): 1, ("fsync", "mkdir", "open", "write"): 6}
"""Calls, and which of them are tried by default: every first, every sixth."""


@dataclass(frozen=True)
class Case:
    """What a publisher does, and what readers may find.

    Args:
        begin: The repository before; none if nothing was published yet.
        act: What is done.
        old: Versions of hello that readers find before.
        new: The same after.
    """

    begin: Publisher
    act: Act
    old: Contents | None
    new: Contents


def kill_at_every_step(case: Case, base: Path) -> None:
    """Let the publisher die at each step, and look at what is left."""
    deaths = sum(_kill_at(case, base, *kind) for kind in KINDS.items())
    print(f"\ndied {deaths} times")
    assert deaths >= 5


def _kill_at(case: Case, base: Path, calls: tuple[str, ...], stride: int) -> int:
    deaths = 0
    for number in itertools.count(1, 1 if EVERY else stride):
        repo = Publisher(base / "victim")
        shutil.copytree(case.begin.base, repo.base)
        if case.old is not None:
            assert repo.reader("seen").versions("hello") == case.old
        status = in_child(partial(dying, calls, number, case.act, repo))
        if os.WIFEXITED(status):
            assert os.WEXITSTATUS(status) == 0
            break
        assert os.WTERMSIG(status) == signal.SIGKILL
        deaths += 1
        check(case, repo, number)
        shutil.rmtree(repo.base)
    shutil.rmtree(repo.base)
    return deaths


def check(case: Case, repo: Publisher, number: int) -> None:
    """A new reader and one of before find the old state or the new one; a second run finishes."""
    if case.old is None and not repo.folder.role("root", 1).exists():
        found = None
    else:
        found = repo.contents("hello")["hello"]
    assert found in (case.old, case.new), number
    if case.old is not None:
        assert repo.reader("seen").versions("hello") in (case.old, case.new), number
    case.act(repo)
    assert repo.contents("hello") == {"hello": case.new}, number
    if case.old is not None:
        assert repo.reader("seen").versions("hello") == case.new, number
    assert not any(repo.folder.staging.iterdir()), number
    assert not any(repo.folder.pending.iterdir()), number


def dying(calls: tuple[str, ...], number: int, act: Act, repo: Publisher) -> None:
    """Do something, but die at the Nth call."""
    left = itertools.count(number, -1)

    def counted(call: Callable[..., Any]) -> Callable[..., Any]:
        def counting(*arguments: Any, **more: Any) -> Any:
            if next(left) == 1:
                os.kill(os.getpid(), signal.SIGKILL)
            return call(*arguments, **more)

        return counting

    for name in calls:
        setattr(os, name, counted(getattr(os, name)))
    act(repo)


def in_child(act: Callable[[], None]) -> int:
    """Run something in a child; gives its wait status."""
    pid = os.fork()
    if pid == 0:
        try:
            act()
            os._exit(0)
        finally:
            os._exit(1)
    _, status = os.waitpid(pid, 0)
    return status


@pytest.fixture
def begin(memory: Path, bundle: Bundle) -> Publisher:
    """A repository with one release."""
    (memory / "begin").mkdir()
    made = Publisher(memory / "begin")
    made.publish(bundle("hello", 1))
    return made


def test_first_use(memory: Path, bundle: Bundle) -> None:
    """There is nothing to read until all of it is there."""
    (memory / "begin").mkdir()
    case = Case(
        Publisher(memory / "begin"),
        lambda repo: repo.publish(bundle("hello", 1)),
        old=None,
        new=["1.0"],
    )
    kill_at_every_step(case, memory)


def test_next_release(begin: Publisher, memory: Path, bundle: Bundle) -> None:
    """So it is with a release more, its manifest's patch, and the catalog."""
    case = Case(
        begin, lambda repo: repo.publish(bundle("hello", 2)), old=["1.0"], new=["1.0", "2.0"]
    )
    kill_at_every_step(case, memory)


def test_refresh(begin: Publisher, memory: Path) -> None:
    """So it is with new snapshots and timestamps."""
    case = Case(
        begin,
        lambda repo: upkeep.refresh(repo.at(20).context, where=repo.folder),
        old=["1.0"],
        new=["1.0"],
    )
    kill_at_every_step(case, memory)


def test_new_online_key(begin: Publisher, memory: Path) -> None:
    """While the online key changes there is no instant at which readers would refuse."""

    def rotate(repo: Publisher) -> None:
        upkeep.rotate(
            repo.context, where=repo.folder, root=None, targets=None, new_online=True, signer=KEY
        )
        upkeep.refresh(repo.context, where=repo.folder)

    kill_at_every_step(Case(begin, rotate, old=["1.0"], new=["1.0"]), memory)


def test_last_signature(begin: Publisher, memory: Path) -> None:
    """The signature that completes a change of root, targets and an app is no exception."""
    other = new_key()
    to = Holders(keys=(KEY.public, other.public), threshold=2)
    upkeep.delegate(begin.context, where=begin.folder, app=AppName("hello"), to=to, signer=KEY)
    upkeep.rotate(
        begin.context, where=begin.folder, root=to, targets=to, new_online=True, signer=KEY
    )
    case = Case(
        begin,
        lambda repo: upkeep.sign(repo.context, where=repo.folder, signer=other),
        old=["1.0"],
        new=["1.0"],
    )
    kill_at_every_step(case, memory)


def test_harness_notices_a_gap(begin: Publisher, memory: Path) -> None:
    """An instant at which a file is missing that readers are led to would be found."""

    def careless(repo: Publisher) -> None:
        path = repo.folder.role("snapshot", 1)
        content = path.read_bytes()
        os.unlink(path)
        os.rename(repo.folder.timestamp, repo.folder.timestamp)
        path.write_bytes(content)

    with pytest.raises(DownloadError):
        kill_at_every_step(Case(begin, careless, old=["1.0"], new=["1.0"]), memory)
