"""An app's state: what its service wrote, outside every version."""

import contextlib
import os
import shutil
import stat
from collections.abc import Iterator

from appbundle.layout import SNAPSHOTS, Layout
from appbundle.names import AppName, Version
from appbundle.system import files, libc

_OPEN = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def purge(layout: Layout, name: AppName) -> None:
    """Remove an app's directories, its snapshots too; the caller was told to in so many words."""
    for path in (
        layout.state(name),
        *(layout.root / place / name for place in ("var/cache", "var/log", "run")),
    ):
        files.remove_tree(path)


def exists(layout: Layout, name: AppName) -> bool:
    """Whether an app has left any."""
    return os.path.lexists(layout.state(name))


def snapshot_path(name: AppName, version: Version, *, complete: bool) -> str:
    """Where a version's snapshot is, as its tasks see it.

    Args:
        complete: For the task that restores it; else for the one that makes it.
    """
    return f"/var/lib/{name}/{SNAPSHOTS}/{version if complete else _part(version)}"


def _part(version: Version) -> str:
    """What a snapshot is called until it is complete; no version begins with a dot."""
    return f".{version}"


def snapshot_time(layout: Layout, name: AppName, version: Version) -> int | None:
    """When a version's snapshot was made, in seconds since the epoch; None if there is none.

    0 for whoever may not look: only root and the service's user do.
    """
    try:
        return int(os.lstat(layout.state(name) / SNAPSHOTS / version).st_mtime)
    except PermissionError:
        return 0
    except OSError:
        return None


def remove_snapshot(layout: Layout, name: AppName, version: Version) -> None:
    """Remove a version's snapshot, if it has one, and what was begun of one."""
    with _snapshots(layout, name, "removing") as inner:
        for entry in (version, _part(version)):
            if inner is not None:
                _remove(entry, inner)


def remove_unfinished(layout: Layout, name: AppName) -> None:
    """Remove what snapshot tasks have begun that died or failed."""
    with _snapshots(layout, name, "removing") as inner:
        for entry in os.listdir(inner) if inner is not None else ():
            if entry.startswith(".") and inner is not None:
                _remove(entry, inner)


def complete_snapshot(layout: Layout, name: AppName, version: Version) -> None:
    """Let what a snapshot task has made be the version's snapshot, once it is durable.

    Only this gives a snapshot its name: one of a task that died or failed is never restored.
    """
    part = _part(version)
    with _snapshots(layout, name, "keeping") as inner:
        if inner is not None and part in os.listdir(inner):
            libc.syncfs(inner)
            _remove(version, inner)
            os.rename(part, version, src_dir_fd=inner, dst_dir_fd=inner)
            os.fsync(inner)


@contextlib.contextmanager
def _snapshots(layout: Layout, name: AppName, doing: str) -> Iterator[int | None]:
    """Open the directory of an app's snapshots; None if it has none.

    The directories above them are the service's own, so none is followed if it is a link.
    """
    with contextlib.ExitStack() as opened:
        try:
            inner: int | None = None
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                fd = os.open(layout.state(name), _OPEN)
                opened.callback(os.close, fd)
                inner = os.open(SNAPSHOTS, _OPEN, dir_fd=fd)
                opened.callback(os.close, inner)
            yield inner
        except OSError as error:
            raise files.translate_os_error(error, f"{doing} a snapshot of {name}") from error


def _remove(entry: str, parent: int) -> None:
    with contextlib.suppress(FileNotFoundError):
        if stat.S_ISDIR(os.lstat(entry, dir_fd=parent).st_mode):
            shutil.rmtree(entry, dir_fd=parent)
        else:
            os.unlink(entry, dir_fd=parent)
