"""Calls to libc fail as Python's own do."""

import errno
import os
from pathlib import Path

import pytest

from appbundle.system import libc


def test_rename_noreplace_keeps_what_is_there(tmp_path: Path) -> None:
    """A taken name is an error, and both stay as they are, even if the taken one is empty."""
    (tmp_path / "old").mkdir()
    (tmp_path / "new").mkdir()
    with pytest.raises(FileExistsError):
        libc.rename_noreplace(str(tmp_path / "old"), str(tmp_path / "new"))
    assert {p.name for p in tmp_path.iterdir()} == {"old", "new"}


def test_rename_noreplace_takes_directory_descriptors(tmp_path: Path) -> None:
    """Names are relative to the descriptors."""
    (tmp_path / "old").write_text("x")
    fd = os.open(tmp_path, os.O_RDONLY)
    try:
        libc.rename_noreplace("old", "new", old_dir_fd=fd, new_dir_fd=fd)
    finally:
        os.close(fd)
    assert (tmp_path / "new").read_text() == "x"


def test_names_with_nul_are_refused(tmp_path: Path) -> None:
    """C would stop at the NUL and rename something else."""
    (tmp_path / "old").touch()
    with pytest.raises(ValueError, match="null"):
        libc.rename_noreplace(str(tmp_path / "old"), f"{tmp_path}/new\0x")


def test_syncfs_reports_errors() -> None:
    """A descriptor that is none is not taken for success."""
    with pytest.raises(OSError) as caught:
        libc.syncfs(10_000)
    assert caught.value.errno == errno.EBADF


def test_unknown_system_call_is_enosys() -> None:
    """What a kernel lacks is told by ENOSYS, on which the fallbacks depend."""
    with pytest.raises(OSError) as caught:
        libc.syscall(100_000, 0, b"x", None)
    assert caught.value.errno == errno.ENOSYS
