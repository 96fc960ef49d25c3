"""What s6 and supervisor have in common, as the backend sees them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """Something to supervise.

    Args:
        argv: What is executed.
        once: It runs to its end, and nobody starts it again.
        ready_fd: Where it writes a line when it is ready; None if it never does.
        stop_signal: Name without SIG.
        stop_timeout_s: After so many seconds it is killed.
        log: The directory of its log.
    """

    argv: Sequence[str]
    once: bool = False
    ready_fd: int | None = None
    stop_signal: str = "TERM"
    stop_timeout_s: int = 10
    log: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How a process ended.

    Args:
        code: Its exit status; None if a signal ended it.
        signal: That signal, 0 if nobody knows which. None if there was none; or if the code is None
            too: then all that is known is that it ended soon.
    """

    code: int | None
    signal: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """A program as its supervisor sees it.

    Args:
        pid: Of what the supervisor started; None if nothing runs.
        wanted: It runs, or will be started again.
        stopping: It runs, but not for long.
        ready: It has said so.
        since: Seconds since the epoch when it came up or went down.
        ended: How it ended last, since it was last told to start.
        too_often: It was given up because it ended again and again.
    """

    pid: int | None = None
    wanted: bool = False
    stopping: bool = False
    ready: bool = False
    since: int | None = None
    ended: Ended | None = None
    too_often: bool = False


Patience = Mapping[str, float]
"""Programs, and after how many seconds each must have ended."""


class Control(Protocol):
    """A supervisor."""

    kind: str

    def prepare(self, holder: Program) -> list[str]:
        """Write its configuration, with nothing but the holder; gives how to run it."""

    def is_running(self) -> bool:
        """Whether it takes commands."""

    def put(self, name: str, program: Program) -> None:
        """Let it know a program, or what is new of it; what runs goes on running."""

    def remove(self, name: str) -> None:
        """Let it forget a program that does not run."""

    def status(self, names: Collection[str]) -> Mapping[str, Status]:
        """Look at programs."""

    def up(self, name: str) -> None:
        """Start one, and do not wait for it."""

    def down(self, programs: Patience) -> None:
        """Stop some at the same time, and wait until all have ended."""

    def restart(self, programs: Patience) -> None:
        """Stop and start some; goes on if the caller is killed. Returns after the old ones' end."""


START_LIMIT = 5
START_INTERVAL_S = 10
"""Given up after so many ends in so many seconds, as systemd does by default."""
LOG_BYTES = 1_000_000
LOG_FILES = 10
