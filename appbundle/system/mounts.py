"""Mounts by descriptor: the mount API of Linux 5.2 to 5.12, or mount(2) where it is missing.

A mount point is named by a directory descriptor and a path below it that has no symbolic link
in it, so that a tree's own links lead nobody out of it.
"""

from __future__ import annotations

import errno
import os
import stat
import sys

from appbundle.system import libc

READ_ONLY = 0x1
NO_SUID = 0x2
NO_DEV = 0x4
NO_EXEC = 0x8
"""MOUNT_ATTR_… and MS_… have the same values for these four."""

# Since Linux 5.2 new system calls have one number on all architectures.
_OPEN_TREE, _MOVE_MOUNT, _FSOPEN, _FSCONFIG, _FSMOUNT, _MOUNT_SETATTR = 428, 429, 430, 431, 432, 442
_OPEN_TREE_CLONE = 0x1
_AT_EMPTY_PATH = 0x1000
_AT_RECURSIVE = 0x8000
_MOVE_MOUNT_EMPTY_PATHS = 0x44
_FSOPEN_CLOEXEC = _FSMOUNT_CLOEXEC = 0x1
_FSCONFIG_SET_STRING, _FSCONFIG_CMD_CREATE = 1, 6

_MS_REMOUNT, _MS_BIND, _MS_REC, _MS_PRIVATE = 0x20, 0x1000, 0x4000, 0x40000
_MNT_DETACH = 2
_SAME_IN_STATVFS = 0xC0F
"""ST_… has MS_…'s value: read-only, nosuid, nodev, noexec, noatime, nodiratime; not relatime."""
_ST_RELATIME, _MS_RELATIME = 1 << 12, 1 << 21


def open_beneath(dir_fd: int, path: str) -> int:
    """Open a path for reference only (O_PATH), following no symbolic link and no `..`.

    Args:
        dir_fd: Where the path starts.
        path: Relative, of plain names.

    Raises:
        FileNotFoundError: A part is missing.
        NotADirectoryError: A part but the last is a link or file.
        OSError: ELOOP: the last is a link.
    """
    *parents, last = path.split("/")
    fd = os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=dir_fd)
    for part in parents:
        fd = _step(fd, part, os.O_DIRECTORY)
    fd = _step(fd, last, 0)
    if stat.S_ISLNK(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
    return fd


def is_file_beneath(dir_fd: int, path: str) -> bool:
    """Whether there is a regular file at a path, reached without any link."""
    try:
        fd = open_beneath(dir_fd, path)
    except OSError as e:
        if e.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            return False
        raise
    try:
        return stat.S_ISREG(os.fstat(fd).st_mode)
    finally:
        os.close(fd)


def bind(
    source_fd: int, dir_fd: int, path: str, *, attributes: int = 0, recursive: bool = False
) -> int:
    """Show what a descriptor refers to at a mount point also.

    Args:
        source_fd: An open file or directory of *this* mount namespace.
        dir_fd: Where `path` starts.
        path: The mount point, without links.
        attributes: READ_ONLY and so on, added to what the source has.
        recursive: With the mounts below it, each with `attributes`; mount(2) leaves them out.

    Returns:
        A descriptor of the new mount's root.
    """
    try:
        tree = _clone(source_fd, recursive=recursive)
        _set_attributes(tree, attributes, recursive=recursive)
    except OSError as e:
        if e.errno != errno.ENOSYS:
            raise
        return _bind_by_mount(source_fd, dir_fd, path, attributes)
    _attach(tree, dir_fd, path)
    return tree


def detached(source_fd: int) -> int:
    """Make a read-only mount of what a descriptor refers to, which is nowhere until `attach`.

    Returns:
        A descriptor of its root.
    """
    tree = _clone(source_fd, recursive=False)
    _set_attributes(tree, READ_ONLY, recursive=False)
    return tree


def attach(tree: int, dir_fd: int, path: str) -> None:
    """Show a mount that is nowhere yet at a mount point, without links."""
    _attach(tree, dir_fd, path)


def mount(kind: str, dir_fd: int, path: str, *, attributes: int, options: dict[str, str]) -> int:
    """Mount a new file system, as `tmpfs`.

    Returns:
        A descriptor of its root.
    """
    try:
        context = libc.syscall(_FSOPEN, kind.encode(), _FSOPEN_CLOEXEC)
    except OSError as e:
        if e.errno != errno.ENOSYS:
            raise
        return _mount_by_mount(kind, dir_fd, path, attributes, options)
    for key, value in options.items():
        libc.syscall(_FSCONFIG, context, _FSCONFIG_SET_STRING, key.encode(), value.encode(), 0)
    libc.syscall(_FSCONFIG, context, _FSCONFIG_CMD_CREATE, None, None, 0)
    tree = libc.syscall(_FSMOUNT, context, _FSMOUNT_CLOEXEC, attributes)
    os.close(context)
    _attach(tree, dir_fd, path)
    return tree


def restrict(fd: int, attributes: int, *, recursive: bool = False) -> None:
    """Add attributes to a mount.

    Args:
        fd: A descriptor of the mount's root.
        attributes: READ_ONLY and so on; what is set stays set.
        recursive: Also to the mounts below it.
    """
    try:
        _set_attributes(fd, attributes, recursive=recursive)
    except OSError as e:
        if e.errno != errno.ENOSYS:
            raise
        _remount(fd, attributes)


def make_private() -> None:
    """Let no mount of this namespace spread to another, or come from one."""
    libc.mount("none", "/", "", _MS_REC | _MS_PRIVATE, "")


def pivot(fd: int) -> None:
    """Make a mount the root of this mount namespace and drop all others. See pivot_root(2).

    Args:
        fd: A descriptor of the mount's root; becomes the working directory.
    """
    os.fchdir(fd)
    # Stacks the old root on the new one, so that no directory for it is needed.
    libc.pivot_root(".", ".")
    libc.umount2(".", _MNT_DETACH)
    os.chdir("/")


def _step(fd: int, part: str, flags: int) -> int:
    if part in ("", ".", ".."):
        os.close(fd)
        raise ValueError(f"not a plain name in a path: {part!r}")
    try:
        return os.open(part, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC | flags, dir_fd=fd)
    finally:
        os.close(fd)


def _clone(fd: int, *, recursive: bool) -> int:
    flags = _OPEN_TREE_CLONE | os.O_CLOEXEC | _AT_EMPTY_PATH
    return libc.syscall(_OPEN_TREE, fd, b"", flags | (_AT_RECURSIVE if recursive else 0))


def _set_attributes(fd: int, attributes: int, *, recursive: bool) -> None:
    # struct mount_attr: attr_set, attr_clr, propagation, userns_fd
    value = attributes.to_bytes(8, sys.byteorder) + bytes(24)
    flags = _AT_EMPTY_PATH | (_AT_RECURSIVE if recursive else 0)
    libc.syscall(_MOUNT_SETATTR, fd, b"", flags, value, len(value))


def _attach(tree: int, dir_fd: int, path: str) -> None:
    target = open_beneath(dir_fd, path)
    libc.syscall(_MOVE_MOUNT, tree, b"", target, b"", _MOVE_MOUNT_EMPTY_PATHS)
    os.close(target)


def _bind_by_mount(source_fd: int, dir_fd: int, path: str, attributes: int) -> int:
    target = open_beneath(dir_fd, path)
    libc.mount(_link(source_fd), _link(target), "", _MS_BIND, "")
    os.close(target)
    # The descriptor above is of what lies beneath; opened anew, it is of the mount.
    tree = open_beneath(dir_fd, path)
    _remount(tree, attributes)
    return tree


def _mount_by_mount(
    kind: str, dir_fd: int, path: str, attributes: int, options: dict[str, str]
) -> int:
    target = open_beneath(dir_fd, path)
    data = ",".join(f"{key}={value}" for key, value in options.items())
    libc.mount(kind, _link(target), kind, attributes, data)
    os.close(target)
    return open_beneath(dir_fd, path)


def _remount(fd: int, attributes: int) -> None:
    # A remount replaces all flags, and a user namespace refuses to drop those it came with.
    present = os.fstatvfs(fd).f_flag
    kept = present & _SAME_IN_STATVFS | (_MS_RELATIME if present & _ST_RELATIME else 0)
    libc.mount("none", _link(fd), "", _MS_REMOUNT | _MS_BIND | attributes | kept, "")


def _link(fd: int) -> str:
    return f"/proc/self/fd/{fd}"
