"""Where a bundle comes from: a file, a pipe, or a directory; each is opened only once."""

import os
import stat
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from appbundle.bundle.container import END_FRAME, Head, read_exactly, read_head
from appbundle.bundle.manifest import Manifest
from appbundle.bundle.statement import (
    MAX_AREA_SIZE,
    MAX_MANIFEST_SIZE,
    Signed,
    encode_signed,
    parse_signed,
)
from appbundle.errors import CorruptError, NotFoundError, UsageError
from appbundle.layout import BUNDLE_DIR, MANIFEST_FRAME, SIGNED
from appbundle.names import escape

_OPEN = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK
_OPEN_INSIDE = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW


class FrameSource(Protocol):
    """A bundle whose payload comes as frames: all of them, or only those that are needed.

    The calls come in the order in which they stand here; `read_into` for each chosen frame.
    Nothing that is given is believed: whoever reads compares it with what was signed.
    """

    @property
    def name(self) -> str:
        """For messages; escaped."""

    def signed(self) -> Signed:
        """Read statement and signatures."""

    def manifest_frame(self, size: int) -> bytes:
        """Read the manifest frame, of the length that the authenticated statement says."""

    def choose_frames(self, manifest: Manifest, needed: Sequence[int]) -> Sequence[int]:
        """Say which frames `read_into` gives.

        Args:
            manifest: What the authentic statement vouches for.
            needed: Numbers of the frames that hold something this node lacks; ascending.

        Returns:
            At least the needed ones, ascending.
        """

    def read_into(self, target: memoryview) -> None:
        """Fill memory with the chosen frames' next bytes.

        Raises:
            CorruptError: There are no more.
        """

    def finish(self) -> None:
        """Check that nothing is wrong with the end.

        Raises:
            CorruptError: There is more, or less, than there should be.
        """


@dataclass(slots=True)
class BundleStream:
    """A bundle file or pipe, read from front to back in one pass.

    Args:
        fd: Stands at the bundle's first byte.
        name: For messages.
    """

    fd: int
    name: str
    head: Head | None = field(default=None, init=False)

    def signed(self) -> Signed:
        """Read statement and signatures; call it first."""
        self.head = read_head(self._read)
        return self.head.signed

    def manifest_frame(self, size: int) -> bytes:
        """Read the manifest frame, of the length that the authenticated statement says."""
        return read_exactly(self._read, size, of="manifest")

    def choose_frames(self, manifest: Manifest, needed: Sequence[int]) -> Sequence[int]:
        """All of them: a stream passes by whole, and a damaged file is said to be damaged."""
        return range(len(manifest.frames))

    def read_into(self, target: memoryview) -> None:
        """Fill memory with the payload's next bytes.

        Raises:
            CorruptError: The bundle ends before.
        """
        while target:
            count = os.readv(self.fd, [target])
            if not count:
                raise CorruptError("the bundle ends inside its payload")
            target = target[count:]

    def finish(self) -> None:
        """Check that the bundle ends exactly where it should.

        Raises:
            CorruptError: The end is cut short, or something follows.
        """
        if read_exactly(self._read, len(END_FRAME), of="end") != END_FRAME or self._read(1):
            raise CorruptError("the bundle does not end where it should")

    def _read(self, size: int) -> bytes:
        return os.read(self.fd, size)


@dataclass(slots=True)
class BundleDirectory:
    """The same as a directory: the files, and `.bundle/` with the manifest frame and signatures."""

    fd: int
    name: str

    def signed(self) -> Signed:
        """Read statement and signatures."""
        area = self._read_inside(SIGNED, MAX_AREA_SIZE)
        signed = parse_signed(area)
        # One statement has one encoding: here the area has no padding.
        if encode_signed(signed) != area:
            raise CorruptError(f"{self.name}: {BUNDLE_DIR}/{SIGNED} has something behind its end")
        return signed

    def manifest_frame(self, size: int) -> bytes:
        """Read the manifest frame; `size` is what the authenticated statement says."""
        frame = self._read_inside(MANIFEST_FRAME, min(size, MAX_MANIFEST_SIZE))
        if len(frame) != size:
            raise CorruptError(f"{self.name}: the manifest frame is not as long as was signed")
        return frame

    def _read_inside(self, name: str, limit: int) -> bytes:
        try:
            fd = os.open(f"{BUNDLE_DIR}/{name}", _OPEN_INSIDE, dir_fd=self.fd)
        except OSError as error:
            raise CorruptError(
                f"{self.name} is not a bundle directory: no {BUNDLE_DIR}/{name}"
            ) from error
        try:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                raise CorruptError(f"{self.name}: {BUNDLE_DIR}/{name} is no regular file")
            with open(fd, "rb", closefd=False) as file:
                content = file.read(limit + 1)
        finally:
            os.close(fd)
        if len(content) > limit:
            raise CorruptError(f"{self.name}: {BUNDLE_DIR}/{name} is too long")
        return content


Source = FrameSource | BundleDirectory


def is_here(path: str) -> bool:
    """Whether something has this name in the directory where appb was started."""
    return os.path.lexists(path)


def bundle_files(directory: str) -> list[str]:
    """The paths of what is named `….bundle` in a directory, sorted.

    Raises:
        NotFoundError: It cannot be read.
    """
    try:
        names = os.listdir(directory)
    except OSError as error:
        raise NotFoundError(f"{escape(directory)} cannot be read: {error.strerror}") from error
    return sorted(os.path.join(directory, name) for name in names if name.endswith(".bundle"))


@contextmanager
def open_source(path: str) -> Iterator[BundleStream | BundleDirectory]:
    """Open a bundle for installing.

    Args:
        path: A file, a directory, or `-` for standard input.

    Raises:
        NotFoundError: Nothing is there.
        UsageError: It is neither a file nor a directory (a device, a FIFO), or a terminal.
    """
    if path == "-":
        if sys.stdin is None:
            raise UsageError("standard input is closed", hint="cat FILE | appb install -")
        if sys.stdin.isatty():
            raise UsageError(
                "a bundle cannot be read from a terminal", hint="cat FILE | appb install -"
            )
        yield BundleStream(sys.stdin.fileno(), "standard input")
        return
    try:
        fd = os.open(path, _OPEN)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise NotFoundError(f"there is no file {escape(path)}") from error
    try:
        mode = os.fstat(fd).st_mode
        name = escape(Path(path).name)
        if stat.S_ISDIR(mode):
            yield BundleDirectory(fd, name)
        elif stat.S_ISREG(mode):
            yield BundleStream(fd, name)
        else:
            raise UsageError(
                f"{escape(path)} is neither a file nor a directory",
                hint="a pipe is read with: appb install - < PIPE",
            )
    finally:
        os.close(fd)
