"""One lock a node or repository: the kernel frees it when its last holder dies, however it dies."""

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from appbundle.errors import LockedError

_MODE = 0o600
_POLL_S = 0.05


@contextmanager
def lock(
    path: Path,
    *,
    purpose: str,
    timeout_s: float,
    waiting: Callable[[str], None] | None = None,
    thing: str = "this node",
) -> Iterator[None]:
    """Hold an exclusive flock(2) on a file, whose content names the holder.

    The descriptor is inherited by forked workers on purpose: the lock is free only when the last
    process that could still write is gone.

    Args:
        path: The lock file; created if missing, and never removed (a lock on a removed file
            excludes nobody).
        purpose: What for, as others will read it: `install`.
        timeout_s: How long to wait for another holder.
        waiting: Called once with the holder's description if it must wait.
        thing: What the lock is of, for messages.

    Raises:
        LockedError: Somebody else still holds it after that time; says who.
    """
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, _MODE)
    try:
        _acquire(fd, timeout_s, waiting, thing)
        _say_who(fd, f"{purpose} (process {os.getpid()})\n".encode())
        yield
    finally:
        os.close(fd)


def _say_who(fd: int, holder: bytes) -> None:
    """Name the holder in the file, over the last one's name: that needs no new block."""
    try:
        os.pwrite(fd, holder, 0)
        os.ftruncate(fd, len(holder))
    except OSError:
        # On a full disk that was never locked before there is no room for a name. A lock without
        # one is as good, and what frees space (`appb gc`) must get it.
        os.ftruncate(fd, 0)


def _acquire(fd: int, timeout_s: float, waiting: Callable[[str], None] | None, thing: str) -> None:
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            said = os.pread(fd, 200, 0).decode("utf-8", "replace")
            holder = said.partition("\n")[0] or "another appb"
        if time.monotonic() >= deadline:
            raise LockedError(
                f"{thing} is being changed by: {holder}",
                hint="wait for it, or give it longer: --lock-timeout SECONDS",
            )
        if waiting is not None:
            waiting(holder)
            waiting = None
        time.sleep(_POLL_S)
