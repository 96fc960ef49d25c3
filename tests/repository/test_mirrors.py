"""Several places with the same files: where one fails, the next goes on."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from appbundle.errors import AppbError, CorruptError, NotFoundError, UnreachableError
from appbundle.repository.transports.local import LocalTransport
from appbundle.repository.transports.mirrors import Mirrors
from appbundle.repository.transports.transport import Stretch

CONTENT = bytes(range(200))
WANTED = (Stretch(3, 50), Stretch(60, 40))
EXPECTED = CONTENT[3:53] + CONTENT[60:100]


@dataclass
class Failing:
    """Gives a few bytes, and then an error.

    Args:
        name: For messages.
        count: How many bytes.
        error: Which error; None for none.
    """

    name: str
    count: int = len(CONTENT)
    error: AppbError | None = None
    asked: list[Stretch] = field(default_factory=list)

    def read(self, path: str, *, limit: int) -> bytes:
        """Give all or nothing."""
        if self.error:
            raise self.error
        return CONTENT

    def read_stretches(
        self, path: str, *, file_size: int, stretches: Sequence[Stretch]
    ) -> Iterator[bytes]:
        """Give the first bytes one by one."""
        self.asked += stretches
        content = b"".join(CONTENT[each.start : each.end] for each in stretches)
        yield from (content[at : at + 1] for at in range(min(self.count, len(content))))
        if self.error:
            raise self.error


def read(*transports: Failing) -> bytes:
    """Read parts of the file from one after the other."""
    pieces = Mirrors(transports).read_stretches("x", file_size=200, stretches=WANTED)
    return b"".join(pieces)


@pytest.mark.parametrize("count", [0, 1, 49, 50, 51, 89])
def test_next_mirror_goes_on_where_the_first_broke_off(count: int) -> None:
    """Each byte is given once, and only what is left is asked of the next."""
    first = Failing("a", count, UnreachableError("gone"))
    second = Failing("b")
    assert read(first, second) == EXPECTED
    assert sum(each.size for each in second.asked) == len(EXPECTED) - count


def test_first_error_is_said_if_all_fail() -> None:
    """What the preferred mirror said says most."""
    first = Failing("a", error=CorruptError("odd"))
    with pytest.raises(CorruptError):
        read(Failing("a", 5, first.error), Failing("b", 5, UnreachableError("gone")))


@pytest.mark.parametrize(
    ("error", "order"),
    [(NotFoundError("none"), "ab"), (UnreachableError("gone"), "ba"), (CorruptError("odd"), "ba")],
)
def test_mirror_that_fails_is_asked_last_from_then_on(error: AppbError, order: str) -> None:
    """One that only lacks a file may not have it yet, and keeps its place."""
    mirrors = Mirrors([Failing("a", error=error), Failing("b")])
    assert mirrors.read("x", limit=1000) == CONTENT
    assert "".join(each.name for each in mirrors.in_order()) == order


def test_directory_with_something_else_than_files(tmp_path: Path) -> None:
    """A pipe is not waited for, and a file of another length or none is an error of its kind."""

    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "file").write_bytes(CONTENT)
    local = LocalTransport(tmp_path)
    with pytest.raises(CorruptError):
        local.read("pipe", limit=1)
    with pytest.raises(CorruptError):
        local.read(".", limit=1)
    with pytest.raises(CorruptError):
        local.read("file", limit=199)
    with pytest.raises(NotFoundError):
        local.read("file/below", limit=1)
    with pytest.raises(CorruptError):
        list(local.read_stretches("file", file_size=201, stretches=WANTED))
    assert b"".join(local.read_stretches("file", file_size=200, stretches=WANTED)) == EXPECTED
