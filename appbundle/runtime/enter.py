"""One more process in the namespaces and control group of a service that runs, as confined as it.

    appb exec      joins the namespaces, forwards signals, ends as the program ended
      program      in the service's pid namespace, and ended with it

See pidfd_open(2), setns(2): a descriptor of the process guards against its number being reused.
"""

from __future__ import annotations

import os

from appbundle import errors
from appbundle.runtime.find import Process
from appbundle.runtime.operations import Operation, Room
from appbundle.runtime.restrictions import compile_program
from appbundle.runtime.supervise import child, execute, raise_failure, start_program
from appbundle.system import cgroups, libc, namespaces, signals

_KEPT = "the service runs on"
_KINDS = {
    "user": namespaces.USER,
    "ipc": namespaces.IPC,
    "uts": namespaces.UTS,
    "net": namespaces.NETWORK,
    "pid": namespaces.PID,
    "mnt": namespaces.MOUNT,
    "cgroup": namespaces.CGROUP,
}


def run(
    process: Process,
    steps: tuple[Operation, ...],
    *,
    argv: tuple[str, ...],
    environment: dict[str, str],
    entitlements: tuple[str, ...],
    umask: int,
) -> int:
    """Run a program inside a running service, wait for its end and pass on signals meanwhile.

    For a process that does nothing else: it is in the service's namespaces afterwards.

    Args:
        process: The service's main process.
        steps: What `plan.entering` says.
        argv: The program and its arguments.
        environment: All its variables.
        entitlements: The service's, for the filter of system calls.
        umask: The service's.

    Returns:
        How the program ended, as of waitpid(2).

    Raises:
        NotFoundError: The service has ended meanwhile, or has no such program.
        UnsupportedError: The kernel refused a step.
    """
    groups, spaces, root_fd = _open(process)
    room = Room(program=compile_program(entitlements))
    blocked = signals.block_all()
    signals.set_default(signals.SIGCHLD)
    unprivileged = os.geteuid() != 0
    own_user_fd = spaces.pop("user", -1) if not unprivileged else -1
    _join(spaces, root_fd)
    failure_fd, failure_writer = os.pipe()
    # Until it has become the bundle's program, nobody in there may look into this one.
    namespaces.hide_from_tracers()
    # What enters a pid namespace is only a child.
    pid = os.fork()
    if pid == 0:

        def body() -> None:
            libc.die_with_parent(signals.SIGKILL)
            namespaces.close_on_exec(3)
            cgroups.join(groups)
            os.umask(umask)
            if own_user_fd >= 0:
                # Inside it may be forbidden.
                os.setgroups([])
                libc.setns(own_user_fd, namespaces.USER)
            execute(steps, room, unprivileged=unprivileged)
            libc.die_with_parent(signals.SIGKILL)
            signals.undo_python()
            signals.set_blocked(blocked)
            start_program(argv, environment)

        child(body, failure_writer)
    os.close(failure_writer)
    try:
        raise_failure(failure_fd, pid)
        return _wait(pid)
    finally:
        signals.set_blocked(blocked)


def _open(process: Process) -> tuple[list[int], dict[str, int], int]:
    """Take hold of a service's control groups, namespaces and root, while it lives."""
    try:
        pidfd = libc.pidfd_open(process.pid)
        groups = cgroups.all_of_process(process.pid).open()
        spaces = _open_namespaces(process.pid)
        root_fd = os.open(f"/proc/{process.pid}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        # If it lives now, all of this was its own.
        _require_alive(pidfd)
        return groups, spaces, root_fd
    except ProcessLookupError as e:
        raise errors.NotFoundError(f"{process.app} has just ended", kept=_KEPT) from e
    except OSError as e:
        raise errors.UnsupportedError(
            f"cannot look into {process.app}: {e.strerror}",
            kept=_KEPT,
            hint="whoever started it, or root, may",
        ) from e


def _open_namespaces(pid: int) -> dict[str, int]:
    """Descriptors of the namespaces that are not the caller's own, by kind."""
    found = {}
    for kind in _KINDS:
        path = f"/proc/{pid}/ns/{kind}"
        if os.readlink(path) != os.readlink(f"/proc/self/ns/{kind}"):
            found[kind] = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    return found


def _join(spaces: dict[str, int], root_fd: int) -> None:
    for kind, fd in spaces.items():
        try:
            libc.setns(fd, _KINDS[kind])
        except OSError as e:
            raise errors.UnsupportedError(
                f"cannot enter its {kind} namespace: {e.strerror}", kept=_KEPT
            ) from e
        os.close(fd)
    # A service manager may have used chroot.
    os.fchdir(root_fd)
    if not os.path.samestat(os.stat("."), os.stat("/")):
        os.chroot(".")
    os.close(root_fd)


def _require_alive(pidfd: int) -> None:
    import signal

    # Signal 0 only asks.
    signal.pidfd_send_signal(pidfd, 0)
    os.close(pidfd)


def _wait(pid: int) -> int:
    while True:
        number, code = signals.wait()
        if number == signals.SIGCHLD:
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                return status
        elif code != signals.SI_KERNEL:
            os.kill(pid, number)
