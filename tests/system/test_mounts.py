"""Mount points are found without following links."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from appbundle.system import mounts


@pytest.fixture
def place(tmp_path: Path) -> Iterator[int]:
    """a/b/file; links a/out (to /), a/self (to b) and link (to a)."""
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "a/b/file").touch()
    (tmp_path / "a/out").symlink_to("/")
    (tmp_path / "a/self").symlink_to("b")
    (tmp_path / "link").symlink_to("a")
    fd = os.open(tmp_path, os.O_PATH)
    yield fd
    os.close(fd)


@pytest.mark.parametrize("path", ["a", "a/b", "a/b/file"])
def test_plain_paths_are_opened(place: int, path: str) -> None:
    """Directories and files below the descriptor."""
    fd = mounts.open_beneath(place, path)
    assert os.path.samestat(os.fstat(fd), os.stat(path, dir_fd=place))
    os.close(fd)


@pytest.mark.parametrize("path", ["link", "link/b", "a/out", "a/out/etc", "a/self/file", "a/none"])
def test_links_are_not_followed(place: int, path: str) -> None:
    """Neither as the last part nor before it."""
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(OSError):
        mounts.open_beneath(place, path)
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize("path", ["..", "a/../a", "/", "", "a//b", "./a"])
def test_unusual_parts_are_refused(place: int, path: str) -> None:
    """A path here is one that appb itself made."""
    with pytest.raises(ValueError):
        mounts.open_beneath(place, path)
