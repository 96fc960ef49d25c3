"""Downloads that outlive a build, by the digest of their content."""

import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from appbundle.build.sources.base import Pin
from appbundle.build.sources.files import hash_file


def find(cache: Path, pin: Pin) -> Path | None:
    """Find a pinned file; one that was damaged in the meantime counts as missing.

    Args:
        cache: Its directory.
        pin: Which.
    """
    path = _path(cache, pin.sha256)
    if path.is_file() and hash_file(path) == pin.sha256:
        return path
    return None


def find_missing(cache: Path, pins: Iterable[Pin]) -> list[Pin]:
    """The pins whose files would have to be downloaded."""
    return [pin for pin in pins if find(cache, pin) is None]


def keep(cache: Path, file: Path) -> str:
    """Move a downloaded file into the cache.

    Returns:
        Its SHA-256.
    """
    digest = hash_file(file)
    path = _path(cache, digest)
    path.parent.mkdir(parents=True, exist_ok=True)
    # Beside its place first: the download may have come from another file system.
    temporary = path.with_suffix(f".{os.getpid()}")
    shutil.move(file, temporary)
    temporary.chmod(0o644)
    os.replace(temporary, path)
    return digest


def show(cache: Path, pins: Iterable[Pin], directory: Path) -> None:
    """Fill a directory with pinned files under their own names, without copying if possible."""
    directory.mkdir(exist_ok=True)
    for pin in pins:
        source, target = _path(cache, pin.sha256), directory / pin.file
        target.unlink(missing_ok=True)
        try:
            os.link(source, target)
        except OSError:
            shutil.copyfile(source, target)


def _path(cache: Path, digest: str) -> Path:
    return cache / "files" / digest[:2] / digest
