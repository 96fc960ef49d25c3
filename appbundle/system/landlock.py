"""Landlock: a process gives up rights to files for itself and all that it starts.

See landlock(7). What the kernel lacks is left out: this is a second wall behind the mounts.
"""

from __future__ import annotations

import errno
import os
import sys

from appbundle.system import libc

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_ASK_VERSION = 1
_PATH_BENEATH = 1
_CHANGES = 0x1FF2
"""Write, remove, make: everything up to MAKE_SYM but EXECUTE, READ_FILE and READ_DIR."""
_REFER, _TRUNCATE = 0x2000, 0x4000
_FOR_FILES = 0x4002
_ABSTRACT_SOCKETS = 1


def version() -> int:
    """What this kernel's landlock can do, as a growing number; 0 if it has none."""
    try:
        return libc.syscall(_CREATE_RULESET, None, 0, _ASK_VERSION)
    except OSError as e:
        if e.errno in (errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM):
            return 0
        raise


def restrict(writable: tuple[str, ...] | None) -> None:
    """Let nothing be changed but below some paths, and no abstract socket of others be reached.

    Needs `no_new_privs`. Paths that do not exist are left out.

    Args:
        writable: Directories or files; None for no restriction of files.
    """
    has = version()
    # Before the second version renames between directories would always fail.
    files = 0 if writable is None or has < 2 else _CHANGES | _REFER
    if files and has >= 3:
        files |= _TRUNCATE
    scoped = _ABSTRACT_SOCKETS if has >= 6 else 0
    if not files and not scoped:
        return
    # struct landlock_ruleset_attr: handled_access_fs, handled_access_net, scoped
    attributes = _word(files) + (_word(0) + _word(scoped) if has >= 6 else b"")
    ruleset = libc.syscall(_CREATE_RULESET, attributes, len(attributes), 0)
    for path in writable or () if files else ():
        _allow(ruleset, path, files)
    libc.syscall(_RESTRICT_SELF, ruleset, 0)
    os.close(ruleset)


def _allow(ruleset: int, path: str, rights: int) -> None:
    try:
        fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except (FileNotFoundError, PermissionError):
        return
    try:
        if not os.path.isdir(f"/proc/self/fd/{fd}"):
            rights &= _FOR_FILES
        # struct landlock_path_beneath_attr, packed: allowed_access, parent_fd
        rule = _word(rights) + fd.to_bytes(4, sys.byteorder)
        libc.syscall(_ADD_RULE, ruleset, _PATH_BENEATH, rule, 0)
    finally:
        os.close(fd)


def _word(value: int) -> bytes:
    return value.to_bytes(8, sys.byteorder)
