"""A fresh journalled ext4 for every measurement, on a loop device, that never outlives the bench.

An ext4 without a journal makes creates about twenty times slower for minutes after a mass delete,
and a used file system is fragmented by the runs before; hence a new one each time.
"""

import contextlib
import ctypes
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from measure import command, run

IMAGE_SIZE_BYTES = 8 << 30

_CLONE_NEWNS = 0x00020000
_MS_REC, _MS_PRIVATE = 0x4000, 0x40000


@dataclass(frozen=True, slots=True, kw_only=True)
class Space:
    """What is in use on a file system."""

    bytes: int
    inodes: int


NOTHING = Space(bytes=0, inodes=0)


def isolate_mounts() -> None:
    """Move this process to a mount namespace of its own.

    Whatever happens to the bench, SIGKILL included, its mounts and loop devices go with it.

    Raises:
        OSError: This process may not (it is not root).
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWNS) or libc.mount(b"none", b"/", None, _MS_REC | _MS_PRIVATE, None):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


@contextlib.contextmanager
def fresh_disk(workdir: Path) -> Iterator[Path]:
    """Make, mount and finally unmount an empty ext4; the image is a sparse file in `workdir`.

    Yields:
        The mount point, whose `lost+found` was removed.
    """
    image, mount_point = workdir / "disk.img", workdir / "disk"
    mount_point.mkdir(exist_ok=True)
    image.unlink(missing_ok=True)
    with image.open("wb") as new:
        new.truncate(IMAGE_SIZE_BYTES)
    options = "lazy_itable_init=0,lazy_journal_init=0"
    run([command("mkfs.ext4", "-q", "-F", "-E", options, image)])
    run([command("mount", "-o", "loop", image, mount_point)])
    try:
        (mount_point / "lost+found").rmdir()
        settle()
        yield mount_point
    finally:
        _unmount(mount_point)
        mount_point.rmdir()
        image.unlink(missing_ok=True)


@contextlib.contextmanager
def memory_disk(workdir: Path) -> Iterator[Path]:
    """Mount and finally unmount a file system in memory, where nothing waits for a disk."""
    mount_point = workdir / "memory"
    mount_point.mkdir(exist_ok=True)
    run([command("mount", "-t", "tmpfs", "-o", "mode=0755", "bench", mount_point)])
    try:
        (mount_point / "node").mkdir()
        yield mount_point
    finally:
        _unmount(mount_point)
        mount_point.rmdir()


def settle() -> None:
    """Write out what earlier steps left in the page cache, so that nobody else pays for it."""
    os.sync()


def space(path: Path) -> Space:
    """What is in use on the file system of `path`, after making it durable."""
    run([command("sync", "-f", path)])
    now = os.statvfs(path)
    return Space(
        bytes=(now.f_blocks - now.f_bfree) * now.f_frsize, inodes=now.f_files - now.f_ffree
    )


def warm(paths: list[Path]) -> int:
    """Read files, and everything below directories, into the page cache.

    Returns:
        How many bytes these are.
    """
    total = 0
    for path in paths:
        if path.is_dir() and not path.is_symlink():
            total += warm(list(path.iterdir()))
        elif path.is_file() and not path.is_symlink():
            with path.open("rb", buffering=0) as source:
                while read := len(source.read(1 << 20)):
                    total += read
    return total


def _unmount(mount_point: Path) -> None:
    """Unmount; what a child left mounted below it (container storage) goes too."""
    try:
        run([command("umount", "--recursive", mount_point)])
    except Exception:
        run([command("umount", "--recursive", "--lazy", mount_point)])
