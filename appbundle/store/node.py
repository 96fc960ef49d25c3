"""A node's private directories: opening them for a change, and clearing away what a crash left."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from appbundle.errors import AppbError, NotFoundError
from appbundle.layout import Layout
from appbundle.system import files
from appbundle.system.lock import lock

LOCK_TIMEOUT_S = 60.0


@contextmanager
def changing(
    layout: Layout,
    *,
    purpose: str,
    timeout_s: float = LOCK_TIMEOUT_S,
    waiting: Callable[[str], None] | None = None,
) -> Iterator[None]:
    """Hold the node's lock; everything below `/apps` is changed only inside this block.

    On entry the private directories exist and whatever a killed predecessor left is gone: it
    cannot be in use, because its writer would still hold the lock.

    Raises:
        LockedError: Another process changes this node.
        UnsupportedError: Somebody else could write to the node's directories.
    """
    if not layout.root.is_dir():
        raise NotFoundError(f"there is no directory {layout.root}", hint=f"mkdir {layout.root}")
    try:
        prepare(layout)
    except OSError as error:
        raise files.translate_os_error(error, f"preparing {layout.apps}") from error
    with lock(layout.lock, purpose=purpose, timeout_s=timeout_s, waiting=waiting):
        try:
            clear_leftovers(layout)
        except OSError as error:
            raise files.translate_os_error(error, "clearing away an interrupted change") from error
        yield


def prepare(layout: Layout) -> None:
    """Make the node's directories, and check that they are safe to work in."""
    files.check_owner(layout.root, may_be_sticky=True)
    if files.make_directory(layout.apps):
        files.fsync_directory(layout.root)
    files.check_owner(layout.apps)
    files.make_directory(layout.private)
    files.check_owner(layout.private)
    for path in (layout.stage, layout.trash, layout.objects):
        files.make_directory(path, mode=files.PRIVATE_MODE)
        files.check_owner(path)
    for path in (layout.generations, layout.pins, layout.releases):
        files.make_directory(path)
        files.check_owner(path)


def clear_leftovers(layout: Layout) -> None:
    """Remove what only a crash can have left: stages, trash, half-made records."""
    for directory in (layout.stage, layout.trash):
        for entry in os.scandir(directory):
            files.remove_tree(entry.path)
    for directory in (layout.generations, layout.pins, layout.releases, layout.private):
        for entry in os.scandir(directory):
            if entry.name.startswith("."):
                files.remove_tree(entry.path)


def new_stage(layout: Layout) -> Path:
    """Make a directory for one transaction; only we may enter it."""
    boot = Path("/proc/sys/kernel/random/boot_id")
    boot_id = boot.read_text().strip()[:8] if boot.exists() else "0"
    path = layout.stage / f"{boot_id}-{files.random_name()}"
    os.mkdir(path, files.PRIVATE_MODE)
    return path


def discard(layout: Layout, path: Path) -> None:
    """Make a file or directory disappear at once, then free what it holds.

    The rename is the removal; a crash after it leaves trash that the next change clears.
    """
    grave = layout.trash / files.random_name()
    try:
        _rename_away(path, grave)
        files.fsync_directory(path.parent)
    except OSError as error:
        raise AppbError(
            f"{error.strerror} while removing {path}", kept=f"{path} is as it was"
        ) from error
    files.remove_tree(grave)


def _rename_away(path: Path, grave: Path) -> None:
    try:
        os.rename(path, grave)
    except PermissionError:
        # Moving a directory writes its `..`: an owner without privileges must be allowed to.
        if path.is_symlink() or not path.is_dir():
            raise
        os.chmod(path, files.PRIVATE_MODE)
        os.rename(path, grave)
