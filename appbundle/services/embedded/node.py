"""Whether a node is supervised, and by what; and how that begins on demand."""

from __future__ import annotations

import fcntl
import importlib.util
import os
import time
from collections.abc import Callable

from appbundle.errors import ServiceFailedError, UnsupportedError
from appbundle.services import own
from appbundle.services.embedded import s6
from appbundle.services.embedded.control import Control
from appbundle.services.embedded.places import Places
from appbundle.system import daemons, process

KINDS = ("s6", "supervisor")
_COMING_UP_S = 30.0
_POLL_S = 0.05


def is_supervised(places: Places) -> bool:
    """Whether an `appb supervise` lives for this node; False if that is not ours to see."""
    try:
        fd = os.open(places.lock, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


def choose_kind(wanted: str = "") -> str:
    """Choose a supervisor: what was asked for, else s6 where it is installed, else supervisor.

    Raises:
        UnsupportedError: It is not installed.
    """
    installed = {"s6": s6.is_installed(), "supervisor": _has_supervisor()}
    for kind in [wanted] if wanted else KINDS:
        if installed.get(kind):
            return kind
    raise UnsupportedError(
        f"{wanted or 'a supervisor for services'} is not installed",
        hint="install s6 (2.11.1 or later), or supervisor from PyPI beside appb",
    )


def make_control(places: Places, kind: str) -> Control:
    """The supervisor of this kind."""
    if kind == "s6":
        return s6.S6(places)
    # Its XML-RPC is a lot to import.
    from appbundle.services.embedded import supervisord

    return supervisord.Supervisord(places)


def _has_supervisor() -> bool:
    return importlib.util.find_spec("supervisor") is not None


def kind_of(places: Places) -> str:
    """Which supervisor runs."""
    return places.kind.read_text().strip()


def control_of(places: Places) -> Control:
    """The supervisor that runs."""
    return make_control(places, kind_of(places))


def start_detached(places: Places, *, ready: Callable[[], bool]) -> None:
    """Start `appb supervise` for good, and wait until it takes commands.

    Raises:
        ServiceFailedError: It does not.
    """
    places.make()
    log = places.logs / "supervise.log"
    appb = own.lasting_command(places.layout)
    argv = [*appb, "--root", str(places.layout.root), "supervise"]
    environment = process.basic_environment(os.environ)
    child = daemons.start(argv, environment, log=str(log))
    deadline = time.monotonic() + _COMING_UP_S
    while not ready():
        has_ended = os.waitpid(child, os.WNOHANG)[0] == child
        if has_ended or time.monotonic() >= deadline:
            raise ServiceFailedError("the supervisor did not come up", hint=f"see {log}")
        time.sleep(_POLL_S)
