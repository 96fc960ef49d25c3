"""Namespaces, capabilities and what else separates a process from its host."""

from __future__ import annotations

import errno
import os

from appbundle.system import libc

MOUNT = 0x00020000
CGROUP = 0x02000000
UTS = 0x04000000
IPC = 0x08000000
USER = 0x10000000
PID = 0x20000000
NETWORK = 0x40000000
"""CLONE_NEW…, see namespaces(7)."""

NAMES = {
    MOUNT: "mount",
    CGROUP: "cgroup",
    UTS: "uts",
    IPC: "ipc",
    USER: "user",
    PID: "pid",
    NETWORK: "network",
}

CAP_KILL = 1 << 5

_LAST_POSSIBLE_CAPABILITY = 63
_CLOSE_RANGE = 436
_CLOSE_RANGE_CLOEXEC = 4
_KEYCTL = {"x86_64": 250, "aarch64": 219}
_KEYCTL_JOIN_SESSION_KEYRING = 1
_AF_INET, _SOCK_DGRAM, _SOCK_CLOEXEC = 2, 2, 0o2000000
_SIOCSIFFLAGS, _IFF_UP = 0x8914, 1


def map_ids(*, inner_uid: int, inner_gid: int, outer_uid: int, outer_gid: int) -> None:
    """Give the caller's new user namespace its one user and one group. See user_namespaces(7)."""
    # Only who can no longer change its groups may map one without privilege.
    _write("/proc/self/setgroups", "deny")
    _write("/proc/self/gid_map", f"{inner_gid} {outer_gid} 1\n")
    _write("/proc/self/uid_map", f"{inner_uid} {outer_uid} 1\n")


def raise_loopback() -> None:
    """Bring up `lo` in a new network namespace."""
    import fcntl

    fd = libc.socket(_AF_INET, _SOCK_DGRAM | _SOCK_CLOEXEC, 0)
    try:
        # struct ifreq: 16 bytes of name, then a union whose first member is short flags
        fcntl.ioctl(fd, _SIOCSIFFLAGS, b"lo".ljust(16, b"\0") + bytes([_IFF_UP]).ljust(24, b"\0"))
    finally:
        os.close(fd)


def map_child(pid: int, ids: tuple[int, ...], *, groups: tuple[int, ...]) -> None:
    """Give the new user namespace of another process these users and groups under equal numbers."""
    _write(f"/proc/{pid}/gid_map", "".join(f"{each} {each} 1\n" for each in groups))
    _write(f"/proc/{pid}/uid_map", "".join(f"{each} {each} 1\n" for each in ids))


def drop_bounding_set(kept: tuple[int, ...] = ()) -> None:
    """Make sure that no exec can ever give back a capability but these."""
    for number in range(_LAST_POSSIBLE_CAPABILITY + 1):
        if number in kept:
            continue
        try:
            libc.prctl(libc.PR_CAPBSET_DROP, number)
        except OSError as e:
            # The first number that the kernel does not know is one past its last capability.
            if e.errno == errno.EINVAL and number:
                return
            raise


def clear_ambient() -> None:
    """Drop the capabilities that would survive an exec."""
    libc.prctl(libc.PR_CAP_AMBIENT, libc.PR_CAP_AMBIENT_CLEAR_ALL)


def raise_ambient(capabilities: tuple[int, ...]) -> None:
    """Pass capabilities on to every program from now on; they must be permitted and inheritable."""
    for number in capabilities:
        libc.prctl(libc.PR_CAP_AMBIENT, libc.PR_CAP_AMBIENT_RAISE, number)


def refuse_new_privileges() -> None:
    """Make set-user-id files and file capabilities ineffective for ever."""
    libc.prctl(libc.PR_SET_NO_NEW_PRIVS, 1)


def hide_from_tracers() -> None:
    """Let no process of the same user trace this one or look into it."""
    libc.prctl(libc.PR_SET_DUMPABLE, 0)


def leave_keyring() -> None:
    """Join a new, empty session keyring, so that the starter's keys stay out of reach."""
    number = _KEYCTL.get(os.uname().machine)
    if number is None:
        return
    try:
        libc.syscall(number, _KEYCTL_JOIN_SESSION_KEYRING, None)
    except OSError as e:
        # No keys in this kernel, or a container that forbids them.
        if e.errno not in (errno.ENOSYS, errno.EPERM):
            raise


def close_on_exec(first: int) -> None:
    """Keep every descriptor from this number on from passing an exec."""
    try:
        libc.syscall(_CLOSE_RANGE, first, 0xFFFFFFFF, _CLOSE_RANGE_CLOEXEC)
    except OSError as e:
        # Linux before 5.9 has no close_range(2), before 5.11 not this flag.
        if e.errno not in (errno.ENOSYS, errno.EINVAL):
            raise
        for name in os.listdir("/proc/self/fd"):
            if int(name) >= first:
                _forget_on_exec(int(name))


def _forget_on_exec(fd: int) -> None:
    try:
        os.set_inheritable(fd, False)
    except OSError as e:
        # The listing itself had one open.
        if e.errno != errno.EBADF:
            raise


def _write(path: str, text: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)
