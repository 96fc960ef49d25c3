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
from appbundle.runtime.descriptors import out_of_the_way, place
from appbundle.runtime.operations import Operation, Room
from appbundle.runtime.plan import Plan
from appbundle.runtime.restrictions import compile_program
from appbundle.system import libc, namespaces, signals

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from appbundle.runtime.descriptors import Listening, Readiness

_KEPT = "nothing was started"
_FAILED = 1
_NO_USER_NAMESPACES = (
    "run it as root, or allow user namespaces (user.max_user_namespaces, "
    "kernel.apparmor_restrict_unprivileged_userns)"
)
_NO_PRIVILEGE = "this needs CAP_SYS_ADMIN; inside a container, start that with more privileges"


def run(plan: Plan, *, listening: Listening = (), readiness: Readiness | None = None) -> int:
    """Start a plan, wait for its end and pass on signals meanwhile.

    For a process that does nothing else: its later children would be in the sandbox's pid
    namespace, and all its signals stay blocked until the service has ended.

    Args:
        listening: Sockets for the service.
        readiness: Who is told that the service is ready.

    Returns:
        How the service ended, as of waitpid(2).

    Raises:
        UnsupportedError: The kernel refused a step.
        NotFoundError: The program does not exist in the tree.
    """
    blocked = signals.block_all()
    signals.set_default(signals.SIGCHLD)
    room = Room(
        program=compile_program(plan.entitlements),
        notify=None if readiness is None else readiness.socket,
    )
    try:
        execute(plan.starter, room, unprivileged=plan.unprivileged)
        init, channel = _fork_init(plan, blocked, room, listening)
        for fd in (*room.group_fds, *(fd for _, fd in listening)):
            os.close(fd)
        if readiness is not None:
            readiness.watch()
        raise_failure(channel.failure_fd, init)
        if readiness is not None:
            readiness.started()
        return _status(channel.status_fd, _forward(init, channel.signal_writer, readiness))
    finally:
        if room.group is not None:
            room.group.remove()
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


def _fork_init(
    plan: Plan, blocked: frozenset[int], room: Room, listening: Listening
) -> tuple[int, _Channel]:
    channel = _Channel()
    pid = os.fork()
    if pid == 0:
        channel.keep_inits()
        # Where a socket for the service belongs may be one of our own pipes.
        channel.failure_writer = out_of_the_way(channel.failure_writer, listening)
        body = _Init(plan, blocked, channel, room, listening)
        child(body.run, channel.failure_writer)
    channel.keep_starters()
    return pid, channel


class _Init:
    """Process 1 of a sandbox."""

    def __init__(
        self,
        plan: Plan,
        blocked: frozenset[int],
        channel: _Channel,
        room: Room,
        listening: Listening,
    ) -> None:
        self._plan = plan
        self._blocked = blocked
        self._channel = channel
        self._room = room
        self._listening = listening

    def run(self) -> None:
        """Build the sandbox, start the service, wait for its end."""
        plan, channel = self._plan, self._channel
        libc.die_with_parent(signals.SIGKILL)
        # Fails if the starter died before that call.
        os.write(channel.status_writer, b"started\n")
        # What the caller left open is not the service's: it could lead out of the tree.
        namespaces.close_on_exec(3)
        os.umask(0)
        execute(plan.init, self._room, unprivileged=plan.unprivileged)
        namespaces.hide_from_tracers()
        if plan.mapped_ids is not None:
            self._room.entered_fd, self._room.entered_writer = os.pipe()
            self._room.mapped_fd, self._room.mapped_writer = os.pipe()
        service = os.fork()
        if service == 0:
            child(self._serve, channel.failure_writer)
        os.close(channel.failure_writer)
        for fd in (*self._room.group_fds, *(fd for _, fd in self._listening)):
            os.close(fd)
        if plan.mapped_ids is not None:
            self._name_users(service, plan.mapped_ids)
        libc.capset(0 if plan.unprivileged else namespaces.CAP_KILL)
        namespaces.refuse_new_privileges()
        status = _reap_until(service, channel.signal_fd)
        os.write(channel.status_writer, str(status).encode())

    def _serve(self) -> None:
        plan, room = self._plan, self._room
        if plan.mapped_ids is not None:
            os.close(room.entered_fd)
            os.close(room.mapped_writer)
        os.umask(plan.umask)
        execute(plan.service, room, unprivileged=plan.unprivileged)
        if not _has_terminal():
            os.setpgid(0, 0)
        passed = place(self._listening)
        signals.undo_python()
        signals.set_blocked(self._blocked)
        start_program(plan.argv, {**dict(plan.environment), **passed})

    def _name_users(self, service: int, ids: tuple[int, int]) -> None:
        """Write who is in the service's user namespace, once it has one."""
        room = self._room
        os.close(room.entered_writer)
        os.close(room.mapped_fd)
        if os.read(room.entered_fd, 1) == b"+":
            try:
                namespaces.map_child(service, (0, ids[0]), groups=(0, ids[1]))
                os.write(room.mapped_writer, b"+")
            except OSError:
                # The service's process sees the end of the pipe, and says what could not be done.
                os.close(room.mapped_writer)
                room.mapped_writer = -1
        os.close(room.entered_fd)
        if room.mapped_writer >= 0:
            os.close(room.mapped_writer)


def execute(steps: tuple[Operation, ...], room: Room, *, unprivileged: bool) -> None:
    """Do steps in order.

    Raises:
        UnsupportedError: The kernel refused one.
    """
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


def start_program(argv: tuple[str, ...], environment: dict[str, str]) -> None:
    """Become a program, looked up in the environment's PATH; returns only as an error.

    Raises:
        NotFoundError: There is none.
    """
    program = argv[0]
    directories = [""] if "/" in program else environment.get("PATH", "").split(":")
    failure = OSError(errno.ENOENT, os.strerror(errno.ENOENT))
    for each in directories:
        try:
            os.execve(f"{each}/{program}" if each else program, argv, environment)  # noqa: S606
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


def child(body: Callable[[], None], failure_writer: int) -> None:
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


def raise_failure(failure_fd: int, init: int) -> None:
    """Wait until a child's program runs, or raise what prevented it."""
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


def _forward(init: int, signal_writer: int, readiness: Readiness | None) -> int:
    while True:
        number, code = signals.wait()
        if readiness is not None and number == signals.SIGIO:
            readiness.read()
        if number == signals.SIGCHLD:
            pid, status = os.waitpid(init, os.WNOHANG)
            if pid:
                return status
            continue
        if code != signals.SI_KERNEL and not (number == signals.SIGIO and readiness):
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
