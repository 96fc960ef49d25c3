"""Signals without the cost of the `signal` module, whose enumerations take 2 ms to import.

`_signal` is the C module beneath it: the same functions, with plain integers.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal
else:
    import _signal

SIGINT = int(_signal.SIGINT)
SIGKILL = int(_signal.SIGKILL)
SIGTERM = int(_signal.SIGTERM)
SIGCHLD = int(_signal.SIGCHLD)
SIGIO = int(_signal.SIGIO)
SIGSTOP = int(_signal.SIGSTOP)
STOPS = frozenset((int(_signal.SIGTSTP), int(_signal.SIGTTIN), int(_signal.SIGTTOU)))
"""Those that stop a process by default and come from a terminal."""

SI_KERNEL = 0x80
"""The code of a signal from the kernel itself, as by Ctrl-C on a terminal."""

_ALL = frozenset(int(number) for number in _signal.valid_signals())


def block_all() -> frozenset[int]:
    """Block every signal; returns those that were blocked before."""
    return frozenset(int(n) for n in _signal.pthread_sigmask(_signal.SIG_BLOCK, _ALL))


def set_blocked(numbers: frozenset[int]) -> None:
    """Block exactly these signals."""
    _signal.pthread_sigmask(_signal.SIG_SETMASK, numbers)


def wait() -> tuple[int, int]:
    """Wait for any signal (all must be blocked); returns its number and its code (SI_…)."""
    info = _signal.sigwaitinfo(_ALL)
    return info.si_signo, info.si_code


def set_default(*numbers: int) -> None:
    """Give signals their default action."""
    for number in numbers:
        _signal.signal(number, _signal.SIG_DFL)


def undo_python() -> None:
    """Give back the default action to what the interpreter ignores from its start on.

    An ignored signal stays ignored across exec, and a program in a pipe would not end.
    """
    set_default(int(_signal.SIGPIPE), int(_signal.SIGXFSZ))
