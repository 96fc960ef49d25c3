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


def make_ext4(image: Path, *options: str, size_bytes: int) -> Path:
    """Make a journalled ext4 in a new, sparse file; no block is reserved for root."""
    _new_image(image, size_bytes)
    eager = ("-E", "lazy_itable_init=0,lazy_journal_init=0")
    _run("mkfs.ext4", "-q", "-F", "-m", "0", *eager, *options, image)
    return image


def make_xfs(image: Path, *, size_bytes: int) -> Path:
    """Make an XFS, whose files can be cloned in an instant and all at once."""
    _new_image(image, size_bytes)
    _run("mkfs.xfs", "-q", "-m", "reflink=1", image)
    return image


@contextmanager
def mounted(image: Path, *options: str) -> Iterator[Path]:
    """Mount an image on a directory beside it, which is gone afterwards.

    Raises:
        subprocess.CalledProcessError: It cannot be mounted.
    """
    place = image.with_suffix(".mounted")
    place.mkdir()
    try:
        _run("mount", "-o", ",".join(("loop", *options)), image, place)
        try:
            place.chmod(0o755)
            yield place
        finally:
            if subprocess.run(["umount", place], capture_output=True).returncode:
                _run("umount", "--lazy", place)
    finally:
        place.rmdir()


def _new_image(image: Path, size_bytes: int) -> None:
    with image.open("xb") as new:
        new.truncate(size_bytes)


def _run(*argv: str | Path) -> None:
    subprocess.run(argv, check=True, capture_output=True, timeout=60)
