"""File systems of their own for tests: small, mounted from an image, gone afterwards."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

needs_disks = pytest.mark.skipif(
    os.geteuid() != 0 or not all(map(shutil.which, ("mkfs.ext4", "mkfs.xfs", "losetup"))),
    reason="needs root, mkfs.ext4, mkfs.xfs and losetup: it makes file systems",
)


@contextmanager
def ext4(image: Path, *options: str, size_bytes: int, mount_options: str = "") -> Iterator[Path]:
    """Make and mount a journalled ext4; the image and the mount point beside it go afterwards.

    Args:
        options: Of mkfs.ext4; without any, no block is reserved for root.
        mount_options: Of mount, separated by commas.
    """
    _new_image(image, size_bytes)
    eager = ("-E", "lazy_itable_init=0,lazy_journal_init=0")
    _run("mkfs.ext4", "-q", "-F", "-m", "0", *eager, *options, image)
    with mounted(image, mount_options=mount_options) as place:
        (place / "lost+found").rmdir()
        yield place


@contextmanager
def xfs(image: Path, *, size_bytes: int) -> Iterator[Path]:
    """Make and mount an XFS, whose files can be cloned in an instant and all at once."""
    _new_image(image, size_bytes)
    _run("mkfs.xfs", "-q", "-m", "reflink=1", image)
    with mounted(image) as place:
        yield place


@contextmanager
def mounted(image: Path, *, mount_options: str = "") -> Iterator[Path]:
    """Mount an image beside it; both are gone afterwards.

    Raises:
        subprocess.CalledProcessError: It cannot be mounted.
    """
    place = image.with_suffix(".mounted")
    place.mkdir()
    try:
        _run("mount", "-o", ",".join(filter(None, ("loop", mount_options))), image, place)
        try:
            place.chmod(0o755)
            yield place
        finally:
            if subprocess.run(["umount", place], capture_output=True).returncode:
                _run("umount", "--lazy", place)
    finally:
        place.rmdir()
        image.unlink()


def _new_image(image: Path, size_bytes: int) -> None:
    with image.open("xb") as new:
        new.truncate(size_bytes)


def _run(*argv: str | Path) -> None:
    subprocess.run(argv, check=True, capture_output=True, timeout=60)
