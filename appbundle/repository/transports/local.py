"""A repository in a directory of this machine: a USB stick, a network file system."""

import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from appbundle.errors import CorruptError, NotFoundError, UnreachableError
from appbundle.names import escape
from appbundle.repository.transports.transport import Stretch

_PIECE_BYTES = 1 << 18
# A named pipe must not make the reader wait.
_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK


@dataclass(frozen=True, slots=True)
class LocalTransport:
    """Reads files below a directory; links in it are followed, as a web server does.

    Args:
        directory: The repository's folder.
    """

    directory: Path

    @property
    def name(self) -> str:
        """Its path, escaped."""
        return escape(f"file://{self.directory}")

    def read(self, path: str, *, limit: int) -> bytes:
        """Read a small file whole."""
        fd = self._open(path)
        try:
            with os.fdopen(fd, "rb") as file:
                content = file.read(limit + 1)
        except OSError as error:
            raise self._unreachable(path, error) from error
        if len(content) > limit:
            raise CorruptError(f"{path} of {self.name} has more than {limit} bytes")
        return content

    def read_stretches(
        self, path: str, *, file_size: int, stretches: Sequence[Stretch]
    ) -> Iterator[bytes]:
        """Read parts of a file."""
        fd = self._open(path)
        try:
            size = os.fstat(fd).st_size
            if size != file_size:
                raise CorruptError(f"{path} of {self.name} has {size} bytes instead of {file_size}")
            for stretch in stretches:
                yield from self._pieces(fd, path, stretch)
        finally:
            os.close(fd)

    def _pieces(self, fd: int, path: str, stretch: Stretch) -> Iterator[bytes]:
        at = stretch.start
        while at < stretch.end:
            try:
                piece = os.pread(fd, min(_PIECE_BYTES, stretch.end - at), at)
            except OSError as error:
                raise self._unreachable(path, error) from error
            if not piece:
                raise CorruptError(f"{path} of {self.name} became shorter while it was read")
            at += len(piece)
            yield piece

    def _open(self, path: str) -> int:
        try:
            fd = os.open(self.directory / path, _FLAGS)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise NotFoundError(f"there is no {path} in {self.name}") from error
        except OSError as error:
            raise self._unreachable(path, error) from error
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            raise CorruptError(f"{path} of {self.name} is not a regular file")
        return fd

    def _unreachable(self, path: str, error: OSError) -> UnreachableError:
        return UnreachableError(f"{path} of {self.name} cannot be read: {error.strerror}")
