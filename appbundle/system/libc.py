"""Thin wrappers of libc calls that the standard library lacks; each fails as OSError with errno.

`appb run` imports this on its fast path: nothing beyond ctypes and os.
"""

import ctypes
import os

AT_FDCWD = -100
RENAME_NOREPLACE = 1

PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_CAPBSET_DROP = 24
PR_SET_NO_NEW_PRIVS = 38
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_CLEAR_ALL = 4

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


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
    result = _libc.renameat2(
        old_dir_fd, os.fsencode(old), new_dir_fd, os.fsencode(new), RENAME_NOREPLACE
    )
    check(result, old, new)


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
    words = (ctypes.c_ulong(word) for word in (second, third, fourth, fifth))
    return check(_libc.prctl(option, *words))


def die_with_parent(signal_number: int) -> None:
    """Ask for a signal when the *thread* that started this process ends. See PR_SET_PDEATHSIG.

    The caller must compare os.getppid() afterwards: the parent may be dead already. Changing
    credentials or executing a set-user-id file clears it.
    """
    prctl(PR_SET_PDEATHSIG, signal_number)
