"""An app's state: what its service wrote, outside every version."""

import contextlib
import os
import shutil
import stat

from appbundle.layout import SNAPSHOTS, Layout
from appbundle.names import AppName, Version
from appbundle.system import files

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


def snapshot_path(name: AppName, version: Version) -> str:
    """Where a version's snapshot task keeps the state, as the task sees it."""
    return f"/var/lib/{name}/{SNAPSHOTS}/{version}"


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
    """Remove a version's snapshot, if it has one.

    The directories above it are the service's own, so none of them is followed if it is a link.
    """
    with contextlib.ExitStack() as opened:
        try:
            fd = os.open(layout.state(name), _OPEN)
            opened.callback(os.close, fd)
            inner = os.open(SNAPSHOTS, _OPEN, dir_fd=fd)
            opened.callback(os.close, inner)
            if stat.S_ISDIR(os.lstat(version, dir_fd=inner).st_mode):
                shutil.rmtree(version, dir_fd=inner)
            else:
                os.unlink(version, dir_fd=inner)
        except (FileNotFoundError, NotADirectoryError):
            return
        except OSError as error:
            raise files.translate_os_error(error, f"removing a snapshot of {name}") from error
