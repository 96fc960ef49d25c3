"""Whom a service runs as, and its state directory, which keeps that decision.

The user `appb-NAME` of the node's passwd file, if there is one. Else a number from 61184 to 65519
(where systemd, too, takes numbers for users without an entry): that of the existing state
directory's owner, or for the first start the name's CRC-32, moved on past numbers that are taken.
"""

from __future__ import annotations

import os
import stat
from binascii import crc32

from appbundle.errors import ConflictError
from appbundle.runtime.plan import User, state_path

USER_PREFIX = "appb-"
FIRST_UID = 61184
LAST_UID = 65519
STATE_MODE = 0o700

_PARENT_MODE = 0o755
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_KEPT = "nothing was started"


def hashed_uid(name: str, *, attempt: int = 0) -> int:
    """The number that an app without a user of its own asks for first, second, …"""
    return FIRST_UID + (crc32(name.encode()) + attempt) % (LAST_UID - FIRST_UID + 1)


def find_user(passwd: bytes, name: str) -> User | None:
    """Find an app's own user.

    Args:
        passwd: The content of the node's passwd file.
        name: The app.

    Raises:
        ConflictError: Its user is root, or its entry is malformed.
    """
    user = USER_PREFIX + name
    for line in passwd.splitlines():
        if line.startswith(user.encode() + b":"):
            return _parse_entry(user, line)
    return None


def prepare(root: str, name: str, *, create: bool = True) -> User:
    """Decide who the service is, as root, and make its state directory if it is missing.

    Args:
        root: The node's root directory.
        name: The app.
        create: Change nothing if false; the answer may change if the directory is missing.

    Raises:
        ConflictError: The state directory is someone else's, or a link.
    """
    passwd = _read_passwd(root)
    own = find_user(passwd, name)
    if not create:
        return own or _hashed(name, hashed_uid(name))
    parent_fd = _open_parent(root, state_path(name))
    try:
        owner = _owner(parent_fd, name)
        if owner is None:
            owner = _create(root, parent_fd, name, own, passwd)
    finally:
        os.close(parent_fd)
    if own is None and FIRST_UID <= owner <= LAST_UID:
        return _hashed(name, owner)
    if own is None or own.uid != owner:
        raise _foreign(root, name, owner, own.uid if own else hashed_uid(name))
    return own


def prepare_unprivileged(root: str, name: str, *, create: bool = True) -> User:
    """As `prepare` for a caller without privileges, who owns the state directory then.

    The service sees itself as the app's hashed user all the same.
    """
    user = _hashed(name, hashed_uid(name))
    if not create:
        return user
    parent_fd = _open_parent(root, state_path(name))
    try:
        owner = _owner(parent_fd, name)
        if owner is None:
            _make(parent_fd, name, STATE_MODE)
        elif owner != os.geteuid():
            raise _foreign(root, name, owner, os.geteuid())
    finally:
        os.close(parent_fd)
    return user


def prepare_directories(root: str, name: str, paths: tuple[str, ...], user: User) -> None:
    """Make the other directories that an app's services write to, 0700 and the user's.

    Args:
        root: The node's root directory.
        name: The app.
        paths: Below the root; each ends in the app's name.
        user: Who `prepare` has said the service is.

    Raises:
        ConflictError: One is someone else's, or a link.
    """
    uid = user.uid if os.geteuid() == 0 else os.geteuid()
    for path in paths:
        try:
            status = os.lstat(os.path.join(root, path))
        except FileNotFoundError:
            status = None
        if status is None or status.st_uid != uid or not stat.S_ISDIR(status.st_mode):
            _prepare_directory(root, name, path, user, uid)


def _prepare_directory(root: str, name: str, path: str, user: User, uid: int) -> None:
    parent_fd = _open_parent(root, path)
    try:
        owner = _owner(parent_fd, name, place=path)
        if owner is None:
            _make(parent_fd, name, STATE_MODE)
            if uid == user.uid and os.geteuid() == 0:
                _give(parent_fd, name, user.uid, user.gid)
        elif owner != uid:
            raise _foreign(root, name, owner, uid, path=path)
    finally:
        os.close(parent_fd)


def _hashed(name: str, uid: int) -> User:
    return User(name=USER_PREFIX + name, uid=uid, gid=uid)


def _parse_entry(user: str, line: bytes) -> User:
    fields = line.split(b":")
    if len(fields) < 4 or not fields[2].isdigit() or not fields[3].isdigit():
        raise ConflictError(f"the node's passwd entry of {user} is malformed", kept=_KEPT)
    uid, gid = int(fields[2]), int(fields[3])
    if uid == 0 or gid == 0:
        raise ConflictError(
            f"{user} is root or in root's group; a service runs as neither", kept=_KEPT
        )
    return User(name=user, uid=uid, gid=gid)


def _read_passwd(root: str) -> bytes:
    try:
        fd = os.open(os.path.join(root, "etc/passwd"), os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return b""
    with open(fd, "rb") as file:
        return file.read()


def _open_parent(root: str, path: str) -> int:
    """Open the directory that holds one of an app's, making what is missing."""
    fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    walked = root.rstrip("/")
    for part in path.split("/")[:-1]:
        walked += "/" + part
        parent_fd = fd
        try:
            fd = _open_or_make(parent_fd, part)
        except OSError as e:
            raise ConflictError(
                f"{walked} cannot be opened as a directory: {e.strerror}",
                kept=_KEPT,
                hint="state directories are reached without symbolic links; use a bind mount",
            ) from e
        finally:
            os.close(parent_fd)
    return fd


def _open_or_make(parent_fd: int, part: str) -> int:
    try:
        return os.open(part, _DIRECTORY, dir_fd=parent_fd)
    except FileNotFoundError:
        _make(parent_fd, part, _PARENT_MODE)
        return os.open(part, _DIRECTORY, dir_fd=parent_fd)


def _make(parent_fd: int, name: str, mode: int) -> None:
    try:
        os.mkdir(name, mode, dir_fd=parent_fd)
    except FileExistsError:
        # Another start was quicker, or an earlier one was killed here.
        return


def _owner(parent_fd: int, name: str, *, place: str = "") -> int | None:
    """Who owns a directory; None if it is missing or was left behind half made."""
    try:
        status = os.stat(name, dir_fd=parent_fd, follow_symlinks=False)
    except FileNotFoundError:
        return None
    if not stat.S_ISDIR(status.st_mode):
        raise ConflictError(
            f"/{place or state_path(name)} is a link or file, not a directory",
            kept=_KEPT,
            hint="mount another place there instead of linking to it",
        )
    if status.st_uid == 0 == os.geteuid() and _is_empty(parent_fd, name):
        return None
    return status.st_uid


def _is_empty(parent_fd: int, name: str) -> bool:
    fd = os.open(name, _DIRECTORY, dir_fd=parent_fd)
    try:
        return not os.listdir(fd)
    finally:
        os.close(fd)


def _create(root: str, parent_fd: int, name: str, own: User | None, passwd: bytes) -> int:
    """Make a state directory; returns its owner."""
    import fcntl

    # Two first starts at once must not take the same number.
    fcntl.flock(parent_fd, fcntl.LOCK_EX)
    owner = _owner(parent_fd, name)
    if owner is not None:
        return owner
    uid = own.uid if own else _free_uid(root, parent_fd, name, passwd)
    _make(parent_fd, name, STATE_MODE)
    _give(parent_fd, name, uid, own.gid if own else uid)
    return uid


def _give(parent_fd: int, name: str, uid: int, gid: int) -> None:
    fd = os.open(name, _DIRECTORY, dir_fd=parent_fd)
    try:
        os.fchmod(fd, STATE_MODE)
        os.fchown(fd, uid, gid)
        os.fsync(fd)
    finally:
        os.close(fd)


def _free_uid(root: str, parent_fd: int, name: str, passwd: bytes) -> int:
    entries = (line.split(b":") for line in passwd.splitlines())
    taken = {int(fields[2]) for fields in entries if len(fields) > 2 and fields[2].isdigit()}
    for sibling in os.listdir(parent_fd):
        taken.add(os.stat(sibling, dir_fd=parent_fd, follow_symlinks=False).st_uid)
    for attempt in range(LAST_UID - FIRST_UID + 1):
        uid = hashed_uid(name, attempt=attempt)
        # systemd's own record of what it gave to a running unit.
        if uid not in taken and not os.path.exists(f"{root}/run/systemd/dynamic-uid/{uid}"):
            return uid
    raise ConflictError(
        f"no user number is free for {name}", kept=_KEPT, hint=f"useradd --system appb-{name}"
    )


def _foreign(root: str, name: str, owner: int, expected: int, *, path: str = "") -> ConflictError:
    whole = f"{root.rstrip('/')}/{path or state_path(name)}"
    return ConflictError(
        f"{whole} belongs to user {owner}, but {name} runs as user {expected}",
        kept=_KEPT,
        hint=f"if it is {name}'s own: chown -R {expected}:{expected} {whole}",
    )
