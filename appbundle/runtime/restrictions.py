"""Steps that take rights and means away from a service's process, just before its program runs."""

from __future__ import annotations

import errno
import os

from appbundle.errors import UnsupportedError
from appbundle.runtime import filter as filters
from appbundle.runtime.opened import CAPABILITIES, Opened
from appbundle.runtime.operations import Operation, Room
from appbundle.system import cgroups, landlock, libc, namespaces, seccomp

_RLIMIT_NOFILE = 7
_WITHOUT_USERS = (errno.EPERM, errno.ENOSPC, errno.EINVAL, errno.ENOSYS, errno.EUSERS)


class MakeGroup(Operation):
    """Make the service's control group.

    Args:
        name: Of the group.
        memory_bytes: 0 for no limit.
        tasks: Likewise.
        cpu_percent: Likewise.
        declared: The controllers whose limits the bundle names, so that they must hold.
    """

    name: str
    memory_bytes: int
    tasks: int
    cpu_percent: int
    declared: tuple[str, ...]

    def describe(self) -> str:
        limits = [f"{self.memory_bytes} bytes of memory", f"{self.tasks} tasks"]
        if self.cpu_percent:
            limits.append(f"{self.cpu_percent} % of a processor")
        return f"make the control group {self.name}: {', '.join(limits)}"

    def execute(self, room: Room) -> None:
        group = cgroups.make(self.name)
        room.group = group
        failed = group.limit(
            memory_bytes=self.memory_bytes, tasks=self.tasks, cpu_percent=self.cpu_percent
        )
        missing = sorted(failed.intersection(self.declared))
        if missing:
            raise UnsupportedError(
                f"nothing here can hold the declared limits of {', '.join(missing)}",
                kept="nothing was started",
                hint="run it as root, or below a control group that is the caller's",
            )
        room.group_fds = group.open()


class JoinGroup(Operation):
    """Enter the control group, which then looks like the topmost one."""

    def describe(self) -> str:
        return "enter the control group, and a new cgroup namespace"

    def execute(self, room: Room) -> None:
        cgroups.join(room.group_fds)
        try:
            libc.unshare(namespaces.CGROUP)
        except OSError as e:
            if e.errno not in _WITHOUT_USERS:
                raise


class LimitFiles(Operation):
    """Limit the descriptors that each process may have open."""

    count: int

    def describe(self) -> str:
        return f"limit open files to {self.count} a process"

    def execute(self, room: Room) -> None:
        try:
            libc.set_limit(_RLIMIT_NOFILE, self.count)
        except PermissionError:
            # Nobody without privileges raises what his own starter has lowered.
            libc.set_limit(_RLIMIT_NOFILE, min(self.count, libc.get_limit(_RLIMIT_NOFILE)[1]))


class OwnUsers(Operation):
    """Enter a user namespace that knows root and the service's user and nobody else.

    In it no capability counts for anything on the host. Its parent writes the numbers, which needs
    privileges that this process gives up by entering.
    """

    def describe(self) -> str:
        return "enter a new user namespace, if this kernel lets services have one"

    def execute(self, room: Room) -> None:
        try:
            libc.unshare(namespaces.USER)
        except OSError as e:
            if e.errno not in _WITHOUT_USERS:
                raise
            os.write(room.entered_writer, b"-")
            return
        os.write(room.entered_writer, b"+")
        if not os.read(room.mapped_fd, 1):
            raise OSError(errno.EPERM, "its users could not be named")


class KeepCapabilities(Operation):
    """Give up every capability but some, which every program from now on has."""

    numbers: tuple[int, ...]

    def describe(self) -> str:
        names = ", ".join(CAPABILITIES[number] for number in self.numbers)
        return f"drop all capabilities but {names}; no new privileges"

    def execute(self, room: Room) -> None:
        namespaces.clear_ambient()
        mask = sum(1 << number for number in self.numbers)
        libc.capset(mask, inheritable=mask)
        namespaces.raise_ambient(self.numbers)
        namespaces.refuse_new_privileges()


class RestrictFiles(Operation):
    """Let nothing be changed outside some directories, and no abstract socket of others be reached.

    Args:
        writable: Absolute paths; None for no restriction of files.
    """

    writable: tuple[str, ...] | None

    def describe(self) -> str:
        places = "" if self.writable is None else f"changes only below {', '.join(self.writable)}; "
        return f"by landlock, if the kernel has it: {places}no abstract sockets of others"

    def execute(self, room: Room) -> None:
        landlock.restrict(self.writable)


class FilterCalls(Operation):
    """Put the filter of system calls into force.

    Args:
        entitlements: What opens it.
    """

    entitlements: tuple[str, ...]

    def describe(self) -> str:
        families = ", ".join(Opened(self.entitlements).families)
        opened = f", opened for {' '.join(self.entitlements)}" if self.entitlements else ""
        return f"filter system calls: those of @system-service{opened}; sockets: {families}"

    def execute(self, room: Room) -> None:
        seccomp.load(room.program)


def compile_program(entitlements: tuple[str, ...]) -> bytes:
    """Compile the filter for this machine.

    Raises:
        UnsupportedError: There is none for its architecture.
    """
    column, audit = seccomp.architecture()
    return filters.compile_filter(Opened(entitlements), column=column, audit=audit)
