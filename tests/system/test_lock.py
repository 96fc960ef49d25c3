"""The node's lock: one holder, named, and free as soon as nobody is left who could still write."""

import contextlib
import os
import select
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from appbundle.errors import LockedError
from appbundle.system.lock import lock


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the lock file is, or will be."""
    return tmp_path / "lock"


def _is_free(path: Path) -> bool:
    """Whether another process gets the lock now: a holder's own child would not be excluded."""
    pid = os.fork()
    if pid == 0:
        try:
            with lock(path, purpose="try", timeout_s=0):
                os._exit(0)
        finally:
            os._exit(1)
    return os.waitpid(pid, 0)[1] == 0


@contextmanager
def _holder(path: Path, *, with_worker: bool = False) -> Iterator[tuple[int, int]]:
    """Let another process hold the lock; gives it and, if wanted, its worker (else 0)."""
    ready, says = os.pipe()
    pid = os.fork()
    if pid == 0:
        with lock(path, purpose="hold", timeout_s=0):
            worker = os.fork() if with_worker else 0
            if worker or not with_worker:
                os.write(says, b"%d\n" % worker)
            signal.pause()
    worker = int(os.read(ready, 20))
    os.close(ready)
    os.close(says)
    try:
        yield pid, worker
    finally:
        for each in filter(None, (pid, worker)):
            _end(each)


def _end(pid: int) -> None:
    """Kill a process, not necessarily a child, and wait until it is gone."""
    with contextlib.suppress(ProcessLookupError):
        watched = os.pidfd_open(pid)
        signal.pidfd_send_signal(watched, signal.SIGKILL)
        select.select([watched], [], [])
        os.close(watched)
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, 0)


def test_lock_excludes_others_and_ends_with_its_block(path: Path) -> None:
    """While one holds it no other gets it; then another does."""
    with lock(path, purpose="one", timeout_s=0):
        assert not _is_free(path)
    assert _is_free(path)


def test_refusal_names_the_holder(path: Path) -> None:
    """Who cannot wait longer is told who is in the way, and which process that is."""
    with _holder(path) as (pid, _), pytest.raises(LockedError) as caught:
        with lock(path, purpose="late", timeout_s=0):
            pass
    assert f"hold (process {pid})" in caught.value.what
    assert caught.value.exit_code == 11


def test_waiting_is_told_once_and_ends_when_the_lock_is_free(path: Path) -> None:
    """Who waits hears once for whom, and goes on when that one is gone."""
    told: list[str] = []
    with _holder(path) as (pid, _):

        def waiting(holder: str) -> None:
            told.append(holder)
            _end(pid)

        with lock(path, purpose="late", timeout_s=30, waiting=waiting):
            pass
    assert told == [f"hold (process {pid})"]


def test_shorter_name_leaves_nothing_of_a_longer_one(path: Path) -> None:
    """A holder is never called by what was written before it."""
    path.write_text("a very long purpose (process 123456789)\nand more\n")
    with _holder(path) as (pid, _):
        assert path.read_text() == f"hold (process {pid})\n"


def test_lock_of_a_killed_holder_is_free(path: Path) -> None:
    """No stale lock can be left: the kernel frees it."""
    with _holder(path) as (pid, _):
        _end(pid)
        assert _is_free(path)


def test_lock_is_held_as_long_as_a_worker_lives(path: Path) -> None:
    """The holder's death is not enough while a process that it forked may still write."""
    with _holder(path, with_worker=True) as (pid, worker):
        _end(pid)
        assert not _is_free(path)
        _end(worker)
        assert _is_free(path)


@pytest.mark.parametrize("umask", [0o000, 0o077])
def test_only_the_owner_can_open_the_lock(path: Path, umask: int) -> None:
    """Row 60: nobody else can take the lock and starve the owner, whatever the umask."""
    before = os.umask(umask)
    try:
        with lock(path, purpose="one", timeout_s=0):
            assert path.stat().st_mode & 0o777 == 0o600
    finally:
        os.umask(before)


def test_lock_follows_no_link(path: Path, tmp_path: Path) -> None:
    """A link in the lock's place is refused, and what it points to is not touched."""
    target = tmp_path / "target"
    target.write_text("precious")
    path.symlink_to(target)
    with pytest.raises(OSError, match="Too many levels"), lock(path, purpose="x", timeout_s=0):
        pass
    assert target.read_text() == "precious"
