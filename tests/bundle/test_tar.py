"""Tar headers: what GNU tar, Python and the format's page agree on."""

import io
import tarfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appbundle.bundle import tar

NAMES = [
    "a",
    "a" * 99,
    "a" * 100,
    "a" * 101,
    "d/" * 60 + "leaf",
    "grüße/λ",
    "x" * 250,
]


def read_back(stream: bytes) -> list[tarfile.TarInfo]:
    """Read a tar stream as Python does."""
    with tarfile.open(fileobj=io.BytesIO(stream + tar.END)) as archive:
        return archive.getmembers()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("executable", [False, True])
def test_file_header_reads_back(name: str, executable: bool) -> None:
    """Path, mode, size, owner and time survive, whatever the length of the name."""
    header = tar.file_header(name, size=5, executable=executable, mtime=77)
    (member,) = read_back(header + b"hello" + bytes(tar.padding(5)))
    assert (member.name, member.size, member.mtime) == (name, 5, 77)
    assert member.mode == (0o755 if executable else 0o644)
    assert (member.uid, member.gid, member.uname, member.gname) == (0, 0, "root", "root")
    assert member.isfile()


@pytest.mark.parametrize("name", NAMES)
def test_directory_header_reads_back(name: str) -> None:
    """A directory is a directory of mode 0755."""
    (member,) = read_back(tar.directory_header(name, mtime=0))
    assert member.isdir()
    assert (member.name, member.mode) == (name, 0o755)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("target", ["b", "../" * 50 + "b", "ü"])
def test_link_header_reads_back(name: str, target: str) -> None:
    """A link keeps its target."""
    (member,) = read_back(tar.link_header(name, target, mtime=0))
    assert member.issym()
    assert (member.name, member.linkname) == (name, target)


def test_huge_size_needs_a_pax_record() -> None:
    """A size that ustar cannot hold is read back all the same."""
    header = tar.file_header("big", size=9 << 30, executable=False, mtime=0)
    with tarfile.open(fileobj=io.BytesIO(header + tar.END), mode="r|") as archive:
        member = archive.next()
    assert member is not None
    assert member.size == 9 << 30


@given(st.text(min_size=1, max_size=300), st.integers(0, 1 << 40))
def test_sizes_of_headers_are_known_without_making_them(name: str, size: int) -> None:
    """The installer computes offsets from these functions alone."""
    name = name.encode("utf-8", "ignore").decode() or "x"
    made = tar.file_header(name, size=size, executable=False, mtime=0)
    assert tar.file_header_size(name, size) == len(made)
    assert tar.directory_header_size(name) == len(tar.directory_header(name, mtime=0))
    assert tar.link_header_size(name, name) == len(tar.link_header(name, name, mtime=0))
