"""The payload: one tar stream, cut into frames. docs/format.md, "Payload".

The stream is the headers of all directories, then of all links, then each file's header, content
and padding, in the manifest's order, then the end of the tar stream, which has a frame of its own.
Everything here follows from the manifest's tables, so an installer computes where each content
lies and never reads a header.
"""

from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from appbundle.bundle import tar
from appbundle.bundle.manifest import File, Link

FRAME_TARGET = 2 << 20
"""A frame is closed at the first file boundary at or past this many bytes."""
MAX_FRAME_SIZE = 4 << 20
"""No frame unpacks to more: what bounds every reader's memory."""
MAX_COMPRESSED_FRAME_SIZE = MAX_FRAME_SIZE + (MAX_FRAME_SIZE >> 8) + 64
"""zstd's own bound for incompressible content (ZSTD_COMPRESSBOUND)."""


@dataclass(frozen=True, slots=True)
class Shape:
    """Where things lie in a payload's tar stream, all in bytes from its start.

    Args:
        structure_size: Length of the headers of directories and links, which come first.
        starts: For each file, where its content starts; it ends `size` later.
        size: Length of the stream without the tar end.
    """

    structure_size: int
    starts: "array[int]"
    size: int


def measure(directories: Iterable[str], links: Iterable[Link], files: Sequence[File]) -> Shape:
    """Compute a stream's shape from the manifest's tables."""
    position = sum(map(tar.directory_header_size, directories))
    position += sum(tar.link_header_size(link.path, link.target) for link in links)
    structure_size = position
    starts = array("q", bytes(8 * len(files)))
    block, longest, largest = tar.BLOCK, tar.MAX_NAME, tar.MAX_SIZE
    for index, file in enumerate(files):
        size, path = file.size, file.path
        # The common case of `file_header_size`, without a call for each of many thousand files.
        if len(path) <= longest and size < largest and path.isascii():
            position += block
        else:
            position += tar.file_header_size(path, size)
        starts[index] = position
        position += size + -size % block
    return Shape(structure_size, starts, position)


def cut(shape: Shape, files: Sequence[File]) -> list[int]:
    """Choose the frames' sizes for a new bundle.

    A frame ends where the stream's structure ends, where a later release's contents begin (so that
    what an upgrade needs stands in frames of its own), and at about `FRAME_TARGET`. A file that is
    larger than a frame is cut into pieces.

    Returns:
        Sizes in bytes, each between 1 and `MAX_FRAME_SIZE`; they add up to `shape.size`.
    """
    sizes: list[int] = []
    begin = 0

    def close(end: int) -> None:
        nonlocal begin
        while end - begin > MAX_FRAME_SIZE:
            sizes.append(FRAME_TARGET)
            begin += FRAME_TARGET
        if end > begin:
            sizes.append(end - begin)
            begin = end

    close(shape.structure_size)
    end, since = begin, -1
    for file, start in zip(files, shape.starts, strict=True):
        next_end = start + file.size + tar.padding(file.size)
        if file.since != since or end - begin >= FRAME_TARGET or next_end - begin > MAX_FRAME_SIZE:
            close(end)
        end, since = next_end, file.since
    close(end)
    return sizes


def structure(directories: Iterable[str], links: Iterable[Link], *, mtime: int) -> bytes:
    """The headers that a stream begins with."""
    parts = [tar.directory_header(path, mtime=mtime) for path in directories]
    parts += [tar.link_header(link.path, link.target, mtime=mtime) for link in links]
    return b"".join(parts)


def plain_frames(
    *,
    directories: Iterable[str],
    links: Iterable[Link],
    files: Iterable[File],
    mtime: int,
    sizes: Iterable[int],
    read: Callable[[File], Iterable[bytes]],
) -> Iterator[bytes]:
    """Give the payload's plain frames one after the other.

    Args:
        sizes: The frames' sizes, from `cut` or from a manifest.
        read: Gives a file's content in pieces of any length; `file.size` bytes in all.

    Yields:
        For each size that many bytes.
    """
    stream = _stream(structure(directories, links, mtime=mtime), files, mtime, read)
    buffer = bytearray()
    for size in sizes:
        while len(buffer) < size:
            buffer += next(stream)
        yield bytes(memoryview(buffer)[:size])
        del buffer[:size]


def _stream(
    begin: bytes, files: Iterable[File], mtime: int, read: Callable[[File], Iterable[bytes]]
) -> Iterator[bytes]:
    yield begin
    for file in files:
        yield tar.file_header(file.path, size=file.size, executable=file.executable, mtime=mtime)
        if file.size:
            yield from read(file)
            yield bytes(tar.padding(file.size))
