"""A repository's files in memory behind a `Transport`, honest or not."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from appbundle.errors import NotFoundError
from appbundle.repository.transports.transport import Stretch

Lie = Callable[[Iterator[bytes]], Iterator[bytes]]


@dataclass(slots=True)
class Memory:
    """Serves files from memory and notes what it was asked for.

    Args:
        files: Contents by path.
        lie: What becomes of the pieces of a stretch that begins at or behind `lie_from`.
        lie_from: An offset.
        piece_bytes: How much it gives at once.
    """

    files: Mapping[str, bytes]
    lie: Lie | None = None
    lie_from: int = 0
    piece_bytes: int = 1000
    asked: list[tuple[str, Stretch]] = field(default_factory=list)
    read_paths: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        """For messages."""
        return "memory"

    def read(self, path: str, *, limit: int) -> bytes:
        """Give a file whole."""
        self.read_paths.append(path)
        if path not in self.files:
            raise NotFoundError(f"there is no {path}")
        return self.files[path]

    def read_stretches(
        self, path: str, *, file_size: int, stretches: Sequence[Stretch]
    ) -> Iterator[bytes]:
        """Give parts of a file in small pieces."""
        self.asked += [(path, each) for each in stretches]
        content = b"".join(self.files[path][s.start : s.end] for s in stretches)
        pieces = (
            content[at : at + self.piece_bytes] for at in range(0, len(content), self.piece_bytes)
        )
        if self.lie is None or stretches[0].start < self.lie_from:
            return pieces
        return self.lie(pieces)
