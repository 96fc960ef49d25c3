"""Start a plan and stay with it: the starter forwards signals, a small init reaps and forwards.

    appb run         the starter: forwards signals, ends as the service ended
      init           pid 1 of the sandbox: builds it, reaps orphans; dies with the starter
        service      the program; when it ends, init ends, and the kernel kills what is left

A signal from a terminal reaches the service by itself, since it is in the starter's process group
then, and is not forwarded a second time. Init forwards only what the starter has written into
their pipe, so that a supervisor that signals every process of a control group does not signal the
service thrice. The signal that the starter sends besides only wakes init: were it the message, it
would be lost whenever the same one from elsewhere is pending still.
"""

from __future__ import annotations

import errno
import os

from appbundle import errors
from appbundle.runtime.operations import Operation, Room
from appbundle.runtime.plan import Plan
from appbundle.system import libc, namespaces, signals

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_KEPT = "nothing was started"
_FAILED = 1
_NO_USER_NAMESPACES = (
    "run it as root, or allow user namespaces (user.max_user_namespaces, "
    "kernel.apparmor_restrict_unprivileged_userns)"
)
_NO_PRIVILEGE = "this needs CAP_SYS_ADMIN; inside a container, start that with more privileges"


def run(plan: Plan) -> int:
    """Start a plan, wait for its end and pass on signals meanwhile.

    For a process that does nothing else: its later children would be in the sandbox's pid
    namespace, and all its signals stay blocked until the service has ended.

    Returns:
        How the service ended, as of waitpid(2).

    Raises:
        UnsupportedError: The kernel refused a step.
        NotFoundError: The program does not exist in the tree.
    """
    blocked = signals.block_all()
    signals.set_default(signals.SIGCHLD)
    try:
        _execute(plan.starter, Room(), unprivileged=plan.unprivileged)
        init, channel = _fork_init(plan, blocked)
        _raise_failure(channel.failure_fd, init)
        return _status(channel.status_fd, _forward(init, channel.signal_writer))
    finally:
        signals.set_blocked(blocked)


class _Channel:
    """The pipes between starter and init; each side closes the ends that are not its own.

    What prevented the start and how the service ended go up, the numbers of signals go down.
    """

    def __init__(self) -> None:
        self.failure_fd, self.failure_writer = os.pipe()
        self.status_fd, self.status_writer = os.pipe()
        self.signal_fd, self.signal_writer = os.pipe()

    def keep_starters(self) -> None:
        for fd in (self.failure_writer, self.status_writer, self.signal_fd):
            os.close(fd)

    def keep_inits(self) -> None:
        for fd in (self.failure_fd, self.status_fd, self.signal_writer):
            os.close(fd)


def _fork_init(plan: Plan, blocked: frozenset[int]) -> tuple[int, _Channel]:
    channel = _Channel()
    pid = os.fork()
    if pid == 0:
        channel.keep_inits()
        _child(lambda: _init(plan, blocked, channel), channel.failure_writer)
    channel.keep_starters()
    return pid, channel


def _init(plan: Plan, blocked: frozenset[int], channel: _Channel) -> None:
    libc.die_with_parent(signals.SIGKILL)
    # Fails if the starter died before that call.
    os.write(channel.status_writer, b"started\n")
    # What the caller left open is not the service's: it could lead out of the tree.
    namespaces.close_on_exec(3)
    os.umask(0)
    _execute(plan.init, Room(), unprivileged=plan.unprivileged)
    namespaces.hide_from_tracers()
    service = os.fork()
    if service == 0:
        _child(lambda: _service(plan, blocked), channel.failure_writer)
    os.close(channel.failure_writer)
    libc.capset(0 if plan.unprivileged else namespaces.CAP_KILL)
    namespaces.refuse_new_privileges()
    status = _reap_until(service, channel.signal_fd)
    os.write(channel.status_writer, str(status).encode())


def _service(plan: Plan, blocked: frozenset[int]) -> None:
    os.umask(0o022)
    _execute(plan.service, Room(), unprivileged=plan.unprivileged)
    if not _has_terminal():
        os.setpgid(0, 0)
    signals.undo_python()
    signals.set_blocked(blocked)
    _exec(plan.argv, dict(plan.environment))


def _execute(steps: tuple[Operation, ...], room: Room, *, unprivileged: bool) -> None:
    for step in steps:
        try:
            step.execute(room)
        except OSError as e:
            raise _refused(step, e, unprivileged=unprivileged) from e


def _refused(step: Operation, e: OSError, *, unprivileged: bool) -> errors.AppbError:
    hint = ""
    if e.errno in (errno.EPERM, errno.EACCES, errno.ENOSPC, errno.EUSERS):
        hint = _NO_USER_NAMESPACES if unprivileged else _NO_PRIVILEGE
    reason = f"{e.strerror}: {e.filename}" if e.filename else e.strerror
    return errors.UnsupportedError(f"cannot {step.describe()}: {reason}", kept=_KEPT, hint=hint)


def _exec(argv: tuple[str, ...], environment: dict[str, str]) -> None:
    program = argv[0]
    places = [""] if "/" in program else environment.get("PATH", "").split(":")
    failure = OSError(errno.ENOENT, os.strerror(errno.ENOENT))
    for place in places:
        try:
            os.execve(f"{place}/{program}" if place else program, argv, environment)  # noqa: S606
        except OSError as e:
            if e.errno not in (errno.ENOENT, errno.ENOTDIR):
                failure = e
    kind = errors.NotFoundError if failure.errno == errno.ENOENT else errors.AppbError
    raise kind(f"cannot execute {program} inside the bundle: {failure.strerror}", kept=_KEPT)


def _has_terminal() -> bool:
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY | os.O_CLOEXEC))
    except OSError:
        return False
    return True


def _child(body: Callable[[], None], failure_writer: int) -> None:
    """Run a forked child's body; never return, never unwind into the parent's code."""
    try:
        body()
        os._exit(0)
    except errors.AppbError as e:
        failure = (type(e).__name__, e.what, e.kept, e.hint)
    except BaseException as e:
        failure = ("AppbError", f"cannot start the service: {e!r}", _KEPT, "")
    try:
        os.write(failure_writer, "\0".join(failure).encode())
    finally:
        os._exit(_FAILED)


def _raise_failure(failure_fd: int, init: int) -> None:
    """Wait until the service's program runs, or raise what prevented it."""
    with open(failure_fd, "rb") as file:
        report = file.read().decode()
    if not report:
        return
    os.waitpid(init, 0)
    name, what, kept, hint = report.split("\0")
    raise getattr(errors, name)(what, kept=kept, hint=hint)


def _status(status_fd: int, init_status: int) -> int:
    """How the service ended; how init ended, if that was killed first."""
    with open(status_fd, "rb") as file:
        reported = file.read().rpartition(b"\n")[2]
    return int(reported) if reported else init_status


def _forward(init: int, signal_writer: int) -> int:
    while True:
        number, code = signals.wait()
        if number == signals.SIGCHLD:
            pid, status = os.waitpid(init, os.WNOHANG)
            if pid:
                return status
            continue
        if code != signals.SI_KERNEL:
            try:
                os.write(signal_writer, bytes((number,)))
            except BrokenPipeError:
                # Init has ended, and the news of it waits behind this signal.
                return os.waitpid(init, 0)[1]
            os.kill(init, number)
        if number in signals.STOPS:
            # The shell must see that its job has stopped.
            os.kill(os.getpid(), signals.SIGSTOP)


def _reap_until(service: int, signal_fd: int) -> int:
    os.set_blocking(signal_fd, False)
    while True:
        number, _ = signals.wait()
        if number != signals.SIGCHLD:
            for wanted in _written(signal_fd):
                os.kill(service, wanted)
            continue
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                break
            if pid == service:
                return status
            if pid == 0:
                break


def _written(signal_fd: int) -> bytes:
    """The signals that the starter has passed on since the last look; one byte each."""
    try:
        return os.read(signal_fd, 4096)
    except BlockingIOError:
        return b""
