"""Processes that outlive a call: a supervisor, and work that goes on if its caller is killed."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence

from appbundle.system import libc, signals

_FAILED = 127
_POLL_S = 0.02


def start(
    argv: Sequence[str],
    environment: Mapping[str, str],
    *,
    log: str | None = None,
    dies_with_us: bool = False,
) -> int:
    """Start a program in a session of its own and do not wait for it.

    Args:
        argv: The program, with its path, and its arguments.
        environment: All that it gets.
        log: A file that its output is added to; ours if None.
        dies_with_us: It gets SIGTERM when this process ends, however that ends.

    Returns:
        Its process number; the caller reaps it, or ends.
    """
    parent = os.getpid()
    pid = os.fork()
    if pid:
        return pid
    try:
        os.setsid()
        if dies_with_us:
            libc.die_with_parent(signals.SIGTERM)
            if os.getppid() != parent:
                os._exit(_FAILED)
        _redirect(log)
        signals.undo_python()
        signals.set_blocked(frozenset())
        os.closerange(3, 1024)
        os.execve(argv[0], list(argv), dict(environment))  # noqa: S606
    except OSError as e:
        os.write(2, f"cannot start {argv[0]}: {e.strerror}\n".encode())
    finally:
        os._exit(_FAILED)


def call(body: Callable[[], int]) -> int:
    """Run a function in a child that this process reaps; gives the child's number.

    Args:
        body: Returns the exit status; whatever it raises is one that failed.
    """
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        libc.die_with_parent(signals.SIGTERM)
        status = body()
    finally:
        os._exit(status)


def _redirect(log: str | None) -> None:
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    os.dup2(null, 0)
    if log is not None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open(log, flags, 0o640)
        os.dup2(fd, 1)
        os.dup2(fd, 2)


def marked(mark: str) -> set[int]:
    """All processes but this one that have a text, as `NAME=VALUE`, in their environment."""
    wanted = os.fsencode(mark)
    found = set()
    for name in os.listdir("/proc"):
        if not name.isdecimal() or int(name) == os.getpid():
            continue
        try:
            with open(f"/proc/{name}/environ", "rb") as file:
                if wanted in file.read().split(b"\0"):
                    found.add(int(name))
        except OSError:
            continue
    return found


def end(mark: str, *, patience_s: float) -> None:
    """End all processes with a mark, by SIGTERM first and after a while by SIGKILL."""
    for number, wait_s in ((signals.SIGTERM, patience_s), (signals.SIGKILL, 5.0)):
        deadline = time.monotonic() + wait_s
        for pid in marked(mark):
            send(pid, number)
        while marked(mark) and time.monotonic() < deadline:
            reap()
            if number == signals.SIGKILL:
                for pid in marked(mark):
                    send(pid, number)
            time.sleep(_POLL_S)


def reap() -> dict[int, int]:
    """Reap every child that has ended; gives how, by process number, as of waitpid(2)."""
    ended: dict[int, int] = {}
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return ended
        if pid == 0:
            return ended
        ended[pid] = status


def send(pid: int, number: int) -> bool:
    """Send a signal; False if there is no such process."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True
