"""How the files of a repository are reached, whatever serves them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Stretch:
    """Consecutive bytes of a file.

    Args:
        start: The first byte's offset.
        size: Bytes, at least one.
    """

    start: int
    size: int

    @property
    def end(self) -> int:
        """The offset behind the last byte."""
        return self.start + self.size


class Transport(Protocol):
    """Reads files by their paths in one repository's folder; what it gives is not authenticated.

    Errors are of `errors`: NotFoundError if the server says that there is no such file,
    UnreachableError if it cannot be reached, is too slow or breaks off for good, CorruptError if
    it does not keep to its protocol or a file is longer than it may be.
    """

    @property
    def name(self) -> str:
        """Where the repository is, for messages: without credentials, escaped."""

    def read(self, path: str, *, limit: int) -> bytes:
        """Read a small file whole.

        Args:
            path: Relative, normal, of unreserved characters and `/`.
            limit: Bytes that it may have at most.
        """

    def read_stretches(
        self, path: str, *, file_size: int, stretches: Sequence[Stretch]
    ) -> Iterator[bytes]:
        """Read parts of a file.

        Args:
            path: As in `read`.
            file_size: Bytes of the whole file, as authenticated metadata say.
            stretches: Ascending, not overlapping.

        Yields:
            Pieces of any size: together the bytes of all stretches in order, neither more nor
            less. Requests may run in parallel and ahead of what is taken, within bounds.
        """
