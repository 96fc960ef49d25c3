"""Bundle files as a whole: written durably, signed again, and packed from a directory."""

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from appbundle.bundle.container import END_FRAME, compress, compression_level, encode_head
from appbundle.bundle.manifest import File, Manifest
from appbundle.bundle.payload import plain_frames
from appbundle.bundle.statement import Signed
from appbundle.errors import ConflictError, CorruptError, NotFoundError, UsageError
from appbundle.names import Digest, escape
from appbundle.system import files, libc

_SMALL = 64 << 10
_COPY = 8 << 20
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def read_small(path: str) -> bytes:
    """Read a key file or the like.

    Raises:
        NotFoundError: There is none.
        UsageError: It is far larger than any key.
    """
    try:
        with open(path, "rb") as file:
            content = file.read(_SMALL + 1)
    except (FileNotFoundError, IsADirectoryError) as error:
        raise NotFoundError(f"there is no file {escape(path)}") from error
    if len(content) > _SMALL:
        raise UsageError(f"{escape(path)} is too large for a key")
    return content


def check_digest(content: bytes, sha256: Digest, *, of: str) -> None:
    """Compare bytes with a digest.

    Raises:
        CorruptError: They differ.
    """
    if hashlib.sha256(content).hexdigest() != sha256:
        raise CorruptError(f"the {of} is not what the statement says")


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Write a file beside its target; it takes the target's place when the block succeeds."""
    temporary = path.with_name(f".{path.name}.{files.random_name()}")
    try:
        with open(temporary, "xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.rename(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    files.fsync_directory(path.parent)


def replace_head(path: Path, fd: int, *, old_size: int, signed: Signed) -> None:
    """Give a bundle file other signatures; no byte behind the signature area changes.

    Args:
        fd: The file as it was checked.
        old_size: Bytes of its present head.
    """
    with replacing(path) as target:
        target.write(encode_head(signed))
        target.flush()
        position = old_size
        while count := os.sendfile(target.fileno(), fd, position, _COPY):
            position += count


def publish_directory(temporary: Path, target: Path) -> None:
    """Give an unpacked directory its name, durably.

    Raises:
        ConflictError: The name was taken meanwhile.
    """
    with files.directory(temporary) as fd:
        libc.syncfs(fd)
    try:
        libc.rename_noreplace(str(temporary), str(target))
    except FileExistsError as error:
        raise ConflictError(f"{target} exists") from error
    files.fsync_directory(target.parent)


def write_packed(
    path: Path,
    source_fd: int,
    signed: Signed,
    manifest_frame: bytes,
    manifest: Manifest,
    *,
    progress: Callable[[int, int], None],
) -> None:
    """Write a bundle file from a bundle directory, frame by frame the one that was signed.

    Raises:
        CorruptError: A frame does not become what was signed.
    """
    level = compression_level(manifest.compression)
    plain = plain_frames(
        directories=manifest.directories,
        links=manifest.links,
        files=manifest.files,
        mtime=manifest.created,
        sizes=[frame.size for frame in manifest.frames],
        read=lambda file: _pieces(source_fd, file),
    )
    with replacing(path) as target:
        target.write(encode_head(signed))
        target.write(manifest_frame)
        for index, (content, frame) in enumerate(zip(plain, manifest.frames, strict=True)):
            compressed = compress(content, level=level)
            if hashlib.sha256(compressed).hexdigest() != frame.sha256:
                raise CorruptError(
                    f"frame {index} does not become what was signed",
                    kept=f"{path} was not written",
                    hint="a file of the directory was changed, or this libzstd is another than "
                    f"{manifest.compression!r}: then build the bundle again",
                )
            target.write(compressed)
            progress(index + 1, len(manifest.frames))
        target.write(END_FRAME)


def _pieces(source_fd: int, file: File) -> Iterator[bytes]:
    try:
        fd = os.open(file.path, _READ, dir_fd=source_fd)
    except OSError as error:
        raise CorruptError(f"{escape(file.path)} cannot be read: {error.strerror}") from error
    left = file.size
    with open(fd, "rb", buffering=0) as content:
        while left and (piece := content.read(min(left, _COPY))):
            left -= len(piece)
            yield piece
    if left:
        raise CorruptError(f"{escape(file.path)} is shorter than was signed")
