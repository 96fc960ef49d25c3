"""Removing versions and generations, and freeing what then nobody shares."""

import os
from collections.abc import Iterable

from appbundle.bundle.manifest import File, Manifest
from appbundle.layout import Layout
from appbundle.names import AppName, Version
from appbundle.store import node
from appbundle.store.check import object_names
from appbundle.store.worker import object_name
from appbundle.system import files

_UNSHARED = 1


def remove_version(
    layout: Layout, name: AppName, version: Version, manifest: Manifest | None
) -> None:
    """Make a version disappear with one rename, then free its files and unshared objects.

    Args:
        manifest: Names the objects to look at; without it they wait for `free_objects`.
    """
    node.discard(layout, layout.version(name, version))
    if manifest is not None:
        free_contents(layout, manifest)
    drop_empty_app(layout, name)


def _with_content(table: Iterable[File]) -> Iterable[File]:
    return (file for file in table if file.size)


def free_contents(layout: Layout, manifest: Manifest) -> None:
    """Free those objects of one bundle that no version links to."""
    free_objects(layout, map(object_name, _with_content(manifest.files)))


def drop_empty_app(layout: Layout, name: AppName) -> None:
    """Remove an app's directory once its last version is gone."""
    try:
        with os.scandir(layout.app(name)) as entries:
            if any(entry.is_dir(follow_symlinks=False) for entry in entries):
                return
    except FileNotFoundError:
        return
    files.remove_tree(layout.app(name))
    files.fsync_directory(layout.apps)


def remove_generation(layout: Layout, number: int) -> None:
    """Forget a generation."""
    node.discard(layout, layout.generations / str(number))


def free_objects(
    layout: Layout, names: Iterable[str] | None = None, *, dry_run: bool = False
) -> tuple[int, int]:
    """Remove objects that no version links to.

    Args:
        names: Which to look at; all of them by default.
        dry_run: Only count.

    Returns:
        How many, and their bytes.
    """
    count = size = 0
    with files.directory(layout.objects) as fd:
        for name in object_names(layout) if names is None else names:
            try:
                status = os.lstat(name, dir_fd=fd)
            except FileNotFoundError:
                continue
            if status.st_nlink == _UNSHARED:
                count += 1
                size += status.st_size
                if not dry_run:
                    os.unlink(name, dir_fd=fd)
    return count, size


def exclusive_bytes(layout: Layout, going: Iterable[tuple[AppName, Version, Manifest]]) -> int:
    """Bytes that removing versions would free: files that only they and the pool hold."""
    freed = 0
    left: dict[int, int] = {}
    for name, version, manifest in going:
        with files.directory(layout.version(name, version)) as fd:
            for file in _with_content(manifest.files):
                try:
                    status = os.lstat(file.path, dir_fd=fd)
                except OSError:
                    continue
                links = left.get(status.st_ino, max(1, status.st_nlink - 1)) - 1
                left[status.st_ino] = links
                if links == 0:
                    freed += status.st_size
    return freed
