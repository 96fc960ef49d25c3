"""A service's filter of system calls: what the systemd unit of the same declaration has.

SystemCallFilter=, SystemCallArchitectures=, MemoryDenyWriteExecute=, RestrictNamespaces=,
RestrictAddressFamilies=, LockPersonality=, RestrictRealtime=, RestrictSUIDSGID=; see
systemd.exec(5). Beyond those no service may type into its terminal (TIOCSTI, TIOCLINUX), which it
shares with whoever has started it.
"""

from __future__ import annotations

import errno

from appbundle.system import seccomp, syscalls

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from appbundle.runtime.opened import Opened
    from appbundle.system.seccomp import Piece

_IO_URING = frozenset(("io_uring_enter", "io_uring_register", "io_uring_setup"))

_PROT_EXEC, _PROT_WRITE, _SHM_EXEC = 0x4, 0x2, 0o100000
_NEW_NAMESPACES = 0x7E020000
_CLONE_NEWTIME = 0x80
_SET_ID = 0o6000
_CREATES = 0o100 | 0o20000000
"""O_CREAT and the bit of O_TMPFILE that is not O_DIRECTORY."""
_ORDINARY_POLICIES = (0, 3, 5)
"""SCHED_OTHER, SCHED_BATCH, SCHED_IDLE."""
_PER_LINUX, _ASK_PERSONALITY = 0, 0xFFFFFFFF
_TYPING = (0x5412, 0x541C)
"""TIOCSTI, TIOCLINUX."""

_EPERM = seccomp.refuse(errno.EPERM)
_ENOSYS = seccomp.refuse(errno.ENOSYS)
_NO_FAMILY = seccomp.refuse(errno.EAFNOSUPPORT)


def compile_filter(opened: Opened, *, column: int, audit: int) -> bytes:
    """Make the program for what a service may do.

    Args:
        opened: Its entitlements.
        column: The architecture's place in the tables of `syscalls`.
        audit: Its AUDIT_ARCH_….
    """
    verdicts: dict[int, Piece] = dict.fromkeys(
        (numbers[column] for numbers in syscalls.SYSTEM_SERVICE.values()), seccomp.ALLOW
    )
    verdicts.pop(-1, None)
    for name in _denied(opened):
        verdicts.pop(syscalls.SYSTEM_SERVICE[name][column], None)
    for name, piece in _conditions(opened):
        number = syscalls.SYSTEM_SERVICE[name][column]
        # Not every architecture has it, or it is denied already.
        if number in verdicts:
            verdicts[number] = piece
    return seccomp.compile_filter(
        verdicts, other=_EPERM, beyond=(syscalls.LAST + 1, _ENOSYS), audit=audit
    )


def _denied(opened: Opened) -> Iterator[str]:
    yield from _IO_URING
    if "capability" not in opened.kinds:
        yield from syscalls.PRIVILEGED
    if "nice" not in opened.kinds:
        yield from syscalls.RESOURCES
    if opened.has_network and opened.kinds.isdisjoint(("listen", "bind-low")):
        yield "listen"
    if opened.has_network and "network-out" not in opened.kinds:
        yield "connect"


def _conditions(opened: Opened) -> Iterator[tuple[str, Piece]]:
    families = opened.families.values()
    yield "socket", seccomp.if_among(0, families, seccomp.ALLOW, _NO_FAMILY)
    yield "ioctl", seccomp.if_among(1, _TYPING, _EPERM, seccomp.ALLOW)
    same = (_PER_LINUX, _ASK_PERSONALITY)
    yield "personality", seccomp.if_among(0, same, seccomp.ALLOW, _EPERM)
    ordinary = seccomp.if_among(1, _ORDINARY_POLICIES, seccomp.ALLOW, _EPERM)
    yield "sched_setscheduler", ordinary
    # Its policy is in memory, where no filter looks.
    yield "sched_setattr", _ENOSYS
    yield from _modes()
    if "jit" not in opened.kinds:
        # pkey_mprotect is not in the set at all.
        yield "mmap", seccomp.if_all(2, _PROT_WRITE | _PROT_EXEC, _EPERM)
        yield "mprotect", seccomp.if_any(2, _PROT_EXEC, _EPERM)
        yield "shmat", seccomp.if_any(2, _SHM_EXEC, _EPERM)
    if "namespaces" not in opened.kinds:
        yield "clone", seccomp.if_any(0, _NEW_NAMESPACES, _EPERM)
        # Its flags are in memory; libraries take ENOSYS for an older kernel and use clone.
        yield "clone3", _ENOSYS
        yield "unshare", seccomp.if_any(0, _NEW_NAMESPACES | _CLONE_NEWTIME, _EPERM)
        yield "setns", _EPERM


def _modes() -> Iterator[tuple[str, Piece]]:
    """No file is made set-user-id or set-group-id."""
    for name, mode in (
        *(("chmod", 1), ("fchmod", 1), ("fchmodat", 2), ("fchmodat2", 2), ("creat", 1)),
        *(("mkdir", 1), ("mkdirat", 2), ("mknod", 1), ("mknodat", 2)),
    ):
        yield name, seccomp.if_any(mode, _SET_ID, _EPERM)
    for name, flags in (("open", 1), ("openat", 2)):
        with_mode = seccomp.if_any(flags + 1, _SET_ID, _EPERM)
        yield name, seccomp.if_any(flags, _CREATES, with_mode)
    # Its mode is in memory.
    yield "openat2", _ENOSYS
