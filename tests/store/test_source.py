"""Sources: files, directories and pipes are opened once; everything else is refused at once."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from appbundle.errors import AppbError, CorruptError, NotFoundError, UsageError
from appbundle.layout import BUNDLE_DIR, MANIFEST_FRAME, SIGNED
from appbundle.store.source import open_source
from tests.crash.support import Node, argv, make_bundle

Bundle = Callable[[str, int], Path]


def fifo(place: Path) -> Path:
    """A pipe with a name and without a writer."""
    os.mkfifo(place / "fifo")
    return place / "fifo"


@pytest.mark.parametrize(
    ("make", "error"),
    [
        (fifo, UsageError),
        (lambda _: Path("/dev/zero"), UsageError),
        (lambda place: place / "missing.bundle", NotFoundError),
        (lambda place: Path(__file__) / "below-a-file", NotFoundError),
    ],
)
def test_what_is_no_file_is_refused(
    memory: Path, make: Callable[[Path], Path], error: type[AppbError]
) -> None:
    """Pipes, devices and missing files are named errors; none is waited for."""
    with pytest.raises(error), open_source(str(make(memory))):
        pass


@pytest.mark.parametrize("content", [b"", b"\x28", b"plain text\n" * 999, bytes(9999)])
def test_what_is_no_bundle_is_corrupt(node: Node, memory: Path, content: bytes) -> None:
    """Any other file is refused before the node is touched."""
    path = memory / "some.bundle"
    path.write_bytes(content)
    with pytest.raises(CorruptError):
        node.install(path)
    assert node.objects() == []


def _cut_short(paper: Path) -> None:
    paper.write_bytes(paper.read_bytes()[:-1])


def _make_longer(paper: Path) -> None:
    paper.write_bytes(paper.read_bytes() + bytes(99_999))


def _link(paper: Path) -> None:
    real = paper.rename(paper.parent.parent.parent / "elsewhere")
    paper.symlink_to(real)


def _replace_by_fifo(paper: Path) -> None:
    paper.unlink()
    os.mkfifo(paper)


@pytest.mark.parametrize("name", [SIGNED, MANIFEST_FRAME])
@pytest.mark.parametrize("damage", [Path.unlink, _cut_short, _make_longer, _link, _replace_by_fifo])
def test_directory_needs_its_papers(
    node: Node, memory: Path, name: str, damage: Callable[[Path], None]
) -> None:
    """A bundle directory whose papers are gone, longer, shorter, elsewhere or a pipe is refused."""
    made = make_bundle(memory, "hello", "1.0", as_directory=True)
    damage(made / BUNDLE_DIR / name)
    with pytest.raises(CorruptError):
        node.install(made)
    assert node.looks().versions == frozenset()
    assert (node.objects(), node.leftovers()) == ([], [])


def test_terminal_is_no_bundle(node: Node) -> None:
    """`install -` at a terminal says what it wants and does not wait for somebody to type it."""
    leader, terminal = os.openpty()
    done = subprocess.run(
        argv(node, "install", "-"), stdin=terminal, capture_output=True, text=True, timeout=30
    )
    os.close(leader)
    os.close(terminal)
    assert (done.returncode, done.stdout) == (2, "")
    assert "terminal" in done.stderr


def test_closed_standard_input_is_said(node: Node) -> None:
    """`install -` without any standard input is a usage error as well."""
    command = 'exec "$@" <&-'
    done = subprocess.run(
        ["sh", "-c", command, "sh", sys.executable, *argv(node, "install", "-")[1:]],
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == 2
    assert "closed" in done.stderr
