"""Durable writes, directories, trees: what the store asks of a file system."""

import errno
import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from appbundle.errors import NOTHING_CHANGED, AppbError, NoSpaceError, UnsupportedError

DIRECTORY_MODE = 0o755
PRIVATE_MODE = 0o700
FILE_MODE = 0o644

_OPEN_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT})


def random_name() -> str:
    """A name that nobody has used: 12 hexadecimal digits."""
    return os.urandom(6).hex()


@contextmanager
def directory(path: str | Path) -> Iterator[int]:
    """Give a descriptor of a directory; its last component may not be a link."""
    fd = os.open(path, _OPEN_DIRECTORY)
    try:
        yield fd
    finally:
        os.close(fd)


def fsync_directory(path: str | Path) -> None:
    """Make a directory's entries durable."""
    with directory(path) as fd:
        os.fsync(fd)


def write_durably(path: Path, content: bytes, *, mode: int | None = FILE_MODE) -> None:
    """Put a file in place with one rename; afterwards it survives a power cut.

    Args:
        path: The target; its directory exists.
        mode: Permissions, whatever the umask; None where a file system may have none.
    """
    temporary = path.with_name(f".{path.name}.{random_name()}")
    try:
        write_new(temporary, content, mode=mode, sync=True)
        os.rename(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    fsync_directory(path.parent)


def write_all_durably(directory: Path, contents: Mapping[str, bytes]) -> None:
    """Put several files into a directory; if there is no room for all, none has changed."""
    temporaries = {name: directory / f".{name}.{random_name()}" for name in contents}
    try:
        for name, content in contents.items():
            write_new(temporaries[name], content, sync=True)
    except BaseException:
        for path in temporaries.values():
            path.unlink(missing_ok=True)
        raise
    for name, path in temporaries.items():
        os.rename(path, directory / name)
    fsync_directory(directory)


def write_new(
    path: Path, content: bytes, *, mode: int | None = FILE_MODE, sync: bool = False
) -> None:
    """Create a file that must not exist yet; durable only with `sync`, and only its content."""
    fd = os.open(
        path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode or FILE_MODE
    )
    try:
        if mode is not None:
            os.fchmod(fd, mode)
        write_all(fd, content)
        if sync:
            os.fsync(fd)
    finally:
        os.close(fd)


def write_all(fd: int, content: bytes | memoryview) -> None:
    """Write everything, however many calls that takes."""
    rest = memoryview(content)
    while rest:
        rest = rest[os.write(fd, rest) :]


def replace_link(path: Path, target: str) -> None:
    """Point a symbolic link elsewhere with one rename and make that durable."""
    temporary = path.with_name(f".{path.name}.{random_name()}")
    os.symlink(target, temporary)
    try:
        os.rename(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    fsync_directory(path.parent)


def make_directory(path: Path, *, mode: int = DIRECTORY_MODE) -> bool:
    """Create a directory with exactly this mode unless something has its name.

    Returns:
        Whether it is new.
    """
    try:
        os.mkdir(path, mode)
    except FileExistsError:
        return False
    os.chmod(path, mode)
    return True


def make_directories(path: Path) -> None:
    """Create a directory and what is missing above it."""
    if not path.is_dir():
        make_directories(path.parent)
        if make_directory(path):
            fsync_directory(path.parent)


def check_owner(path: Path, *, may_be_sticky: bool = False) -> None:
    """Refuse a directory that someone else could change under us.

    Args:
        may_be_sticky: Others may add to it, but not replace what is ours (as in /tmp).

    Raises:
        UnsupportedError: It is no directory, is another user's, or others may write to it.
    """
    status = os.lstat(path)
    hint = f"make it a directory of the user who runs appb, mode 0755: {path}"
    if stat.S_ISLNK(status.st_mode):
        raise UnsupportedError(
            f"{path} is a symbolic link, not a directory",
            hint="another disk can be mounted there, also with: mount --bind",
        )
    if not stat.S_ISDIR(status.st_mode):
        raise UnsupportedError(f"{path} is not a directory", hint=hint)
    if status.st_uid not in (os.geteuid(), 0):
        raise UnsupportedError(f"{path} belongs to another user (uid {status.st_uid})", hint=hint)
    if status.st_mode & 0o022 and not (may_be_sticky and status.st_mode & stat.S_ISVTX):
        raise UnsupportedError(f"{path} is writable by others", hint=hint)


def read_trusted(path: Path) -> bytes:
    """Read a file that decides something, unless someone else could have written it.

    Raises:
        FileNotFoundError: There is none.
        UnsupportedError: It, or its directory, is another user's or writable by others.
    """
    check_owner(path.parent)
    with open(path, "rb") as file:
        status = os.fstat(file.fileno())
        if status.st_uid not in (os.geteuid(), 0):
            raise UnsupportedError(
                f"{path} belongs to another user (uid {status.st_uid}), so it decides nothing",
                hint=f"read it through, then: chown root: {path}",
            )
        if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise UnsupportedError(
                f"{path} is writable by others, so it decides nothing", hint=f"chmod 644 {path}"
            )
        return file.read()


def is_writable(path: Path) -> bool:
    """Whether this process may make entries in a directory."""
    return os.access(path, os.W_OK | os.X_OK)


def remove_tree(path: str | Path) -> None:
    """Remove a file or directory with everything below it, whatever its modes; never follows links.

    Names that are gone already are no error, so that an interrupted removal is simply repeated.
    """
    try:
        if not stat.S_ISDIR(os.lstat(path).st_mode):
            os.unlink(path)
            return
    except FileNotFoundError:
        return
    # Only an owner without privileges can be kept out by modes; it makes its own way in.
    if os.geteuid() != 0:
        _open_up(os.fspath(path))
    # Not at the top: what removes nothing (`appb switch`) need not load its compressors.
    import shutil

    shutil.rmtree(path)


def _open_up(path: str) -> None:
    """Let the owner into a directory and all those below it, before looking what is there."""
    os.chmod(path, PRIVATE_MODE)
    with os.scandir(path) as entries:
        below = [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]
    for each in below:
        _open_up(each)


def free_space(path: Path) -> tuple[int, int]:
    """Ask a file system what an ordinary user may still use.

    Returns:
        Bytes and inodes; a file system without a fixed number of inodes says a large one.
    """
    status = os.statvfs(path)
    inodes = status.f_favail if status.f_files else 1 << 60
    return status.f_bavail * status.f_frsize, inodes


def translate_os_error(error: OSError, doing: str, *, kept: str = NOTHING_CHANGED) -> AppbError:
    """Say an OSError in appb's words.

    Args:
        doing: What was attempted, as in `unpacking nova-api 34.0.0`.
    """
    name = f": {error.filename}" if error.filename else ""
    if error.errno in _NO_SPACE:
        return NoSpaceError(
            f"the disk is full (bytes, inodes or quota) while {doing}",
            kept=kept,
            hint="appb gc --dry-run shows what can be freed",
        )
    return AppbError(f"{error.strerror} while {doing}{name}", kept=kept)
