"""Thin wrappers of libc calls that the standard library lacks; each fails as OSError with errno.

`appb run` imports this on its fast path: nothing beyond ctypes and os.
"""

import ctypes
import os

AT_FDCWD = -100
RENAME_NOREPLACE = 1
RENAME_EXCHANGE = 2

PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_SET_KEEPCAPS = 8
PR_CAPBSET_DROP = 24
PR_SET_NO_NEW_PRIVS = 38
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_RAISE = 2
PR_CAP_AMBIENT_CLEAR_ALL = 4

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long
_libc.prctl.argtypes = [ctypes.c_int, *[ctypes.c_ulong] * 4]

_CAPABILITY_VERSION_3 = 0x20080522
_PIDFD_OPEN = 434


def check(result: int, *paths: str | None) -> int:
    """Turn libc's -1 into OSError (or its subclass for this errno).

    Args:
        result: What the call returned.
        paths: At most two names for the error's text.
    """
    if result != -1:
        return result
    number = ctypes.get_errno()
    first = paths[0] if paths else None
    second = paths[1] if len(paths) > 1 else None
    raise OSError(number, os.strerror(number), first, None, second)


def syscall(number: int, *arguments: int | bytes | None) -> int:
    """Make a system call that libc may not know; see syscall(2).

    Integers are passed as machine words, byte strings by address.

    Raises:
        OSError: With errno; ENOSYS on a kernel without it.
    """
    words = [
        ctypes.c_long(word) if isinstance(word, int) else ctypes.c_char_p(word)
        for word in arguments
    ]
    return check(_libc.syscall(ctypes.c_long(number), *words))


def rename_noreplace(
    old: str, new: str, *, old_dir_fd: int = AT_FDCWD, new_dir_fd: int = AT_FDCWD
) -> None:
    """Rename, failing if the new name exists in any form; atomic. See renameat2(2).

    Raises:
        FileExistsError: The new name is taken.
        OSError: As rename(2), or EINVAL if this file system lacks RENAME_NOREPLACE.
    """
    result = _libc.renameat2(old_dir_fd, _path(old), new_dir_fd, _path(new), RENAME_NOREPLACE)
    check(result, old, new)


def rename_exchange(one: str, other: str) -> None:
    """Swap what two names stand for; atomic. See renameat2(2), RENAME_EXCHANGE.

    Raises:
        OSError: One does not exist, or this file system lacks RENAME_EXCHANGE.
    """
    result = _libc.renameat2(
        AT_FDCWD, os.fsencode(one), AT_FDCWD, os.fsencode(other), RENAME_EXCHANGE
    )
    check(result, one, other)


def syncfs(fd: int) -> None:
    """Write back the file system that holds an open file, and wait. See syncfs(2).

    Since Linux 5.8 a write-back error since the file was opened is reported: open the
    descriptor *before* writing what it shall vouch for.

    Raises:
        OSError: EIO or ENOSPC: something was not written.
    """
    check(_libc.syncfs(fd))


def prctl(option: int, second: int = 0, third: int = 0, fourth: int = 0, fifth: int = 0) -> int:
    """Operate on the calling process or thread. See prctl(2)."""
    return check(_libc.prctl(option, second, third, fourth, fifth))


def die_with_parent(signal_number: int) -> None:
    """Ask for a signal when the *thread* that started this process ends. See PR_SET_PDEATHSIG.

    The caller must make sure afterwards that the parent was not dead already. Changing
    credentials or executing a set-user-id file clears it.
    """
    prctl(PR_SET_PDEATHSIG, signal_number)


def capset(capabilities: int, *, inheritable: int = 0) -> None:
    """Set the effective and permitted capabilities, and the inheritable ones. See capset(2).

    Args:
        capabilities: Bit N is capability N.
        inheritable: Likewise.
    """
    masks = ((capabilities >> shift, inheritable >> shift) for shift in (0, 32))
    words = [w & 0xFFFFFFFF for own, passed in masks for w in (own, own, passed)]
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    check(_libc.capset(header, (ctypes.c_uint32 * 6)(*words)))


def set_limit(resource: int, value: int) -> None:
    """Set both limits of a resource, the `resource` module being one import more.

    See setrlimit(2).
    """
    check(_libc.setrlimit(resource, (ctypes.c_ulong * 2)(value, value)))


def get_limit(resource: int) -> tuple[int, int]:
    """The soft and the hard limit of a resource. See getrlimit(2)."""
    found = (ctypes.c_ulong * 2)()
    check(_libc.getrlimit(resource, found))
    return int(found[0]), int(found[1])


def setns(fd: int, kind: int) -> None:
    """Enter a namespace that a descriptor of /proc/PID/ns refers to. See setns(2)."""
    check(_libc.setns(fd, kind))


def pidfd_open(pid: int) -> int:
    """A descriptor that stays this very process's, whoever gets its number later.

    See pidfd_open(2), Linux 5.3.
    """
    return syscall(_PIDFD_OPEN, pid, 0)


def unshare(flags: int) -> None:
    """Leave namespaces for new ones. See unshare(2)."""
    check(_libc.unshare(flags))


def sethostname(name: str) -> None:
    """Set the host name of this uts namespace. See sethostname(2)."""
    raw = name.encode()
    check(_libc.sethostname(raw, len(raw)))


def socket(family: int, kind: int, protocol: int) -> int:
    """Open a socket; the `socket` module would cost 3 ms to import. See socket(2)."""
    return check(_libc.socket(family, kind, protocol))


def mount(source: str, target: str, kind: str, flags: int, data: str) -> None:
    """Mount, bind or remount. See mount(2)."""
    words = (_path(source), _path(target), _path(kind), ctypes.c_ulong(flags), _path(data))
    check(_libc.mount(*words), target)


def umount2(target: str, flags: int) -> None:
    """Unmount. See umount2(2)."""
    check(_libc.umount2(_path(target), flags), target)


def pivot_root(new_root: str, put_old: str) -> None:
    """Change the root mount of this mount namespace. See pivot_root(2)."""
    check(_libc.pivot_root(_path(new_root), _path(put_old)), new_root)


def _path(text: str) -> bytes:
    raw = os.fsencode(text)
    # C would silently stop at the NUL and act on another name.
    if b"\0" in raw:
        raise ValueError("embedded null byte")
    return raw
