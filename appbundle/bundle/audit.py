"""The slow, complete check of a payload: every byte of the tar stream follows from the manifest."""

import hashlib
from collections.abc import Iterable, Iterator

from appbundle.bundle import tar
from appbundle.bundle.container import decompress
from appbundle.bundle.manifest import File, Manifest
from appbundle.bundle.payload import structure
from appbundle.bundle.rules import encode_manifest
from appbundle.errors import CorruptError
from appbundle.names import escape


def check_manifest_frame(manifest: Manifest, frame: bytes) -> None:
    """Compare the tar member in a manifest frame, header and padding too, with the one it must be.

    Args:
        frame: Authenticated, compressed.

    Raises:
        CorruptError: It unpacks to anything else.
    """
    raw = encode_manifest(manifest)
    header = tar.file_header(
        tar.MANIFEST_NAME, size=len(raw), executable=False, mtime=manifest.created
    )
    member = header + raw + bytes(tar.padding(len(raw)))
    if decompress(frame, size=len(member)) != member:
        raise CorruptError("the tar header or padding around the manifest is not what it must be")


def check_stream(manifest: Manifest, plain_frames: Iterable[bytes]) -> None:
    """Compare an unpacked payload with the one that the manifest describes.

    What a tar program would unpack is then exactly what appb installs; so this is required before
    signing.

    Args:
        plain_frames: The payload's frames, authenticated and unpacked, in order.

    Raises:
        CorruptError: A header, a content, or padding is anything else.
    """
    stream = _Stream(iter(plain_frames))
    begin = structure(manifest.directories, manifest.links, mtime=manifest.created)
    if stream.take(len(begin)) != begin:
        raise CorruptError("the tar headers of directories and links are not the manifest's")
    for file in manifest.files:
        _check_member(stream, file, manifest.created)
    if not stream.is_at_end():
        raise CorruptError("the payload goes on after its last file")


def _check_member(stream: "_Stream", file: File, mtime: int) -> None:
    header = tar.file_header(file.path, size=file.size, executable=file.executable, mtime=mtime)
    if stream.take(len(header)) != header:
        raise CorruptError(f"the tar header of {escape(file.path)} is not the manifest's")
    digest = hashlib.sha256()
    for piece in stream.pieces(file.size):
        digest.update(piece)
    if digest.hexdigest() != file.sha256:
        raise CorruptError(f"the content of {escape(file.path)} is not the manifest's")
    if stream.take(tar.padding(file.size)).strip(b"\0"):
        raise CorruptError(f"the padding after {escape(file.path)} is not zero")


class _Stream:
    """A sequence of frames, read as one stream."""

    def __init__(self, frames: Iterator[bytes]) -> None:
        self._frames = frames
        self._rest = memoryview(b"")

    def pieces(self, size: int) -> Iterator[memoryview]:
        while size:
            if not self._rest:
                try:
                    self._rest = memoryview(next(self._frames))
                except StopIteration:
                    raise CorruptError("the payload ends early") from None
            piece, self._rest = self._rest[:size], self._rest[size:]
            size -= len(piece)
            yield piece

    def take(self, size: int) -> bytes:
        return b"".join(self.pieces(size))

    def is_at_end(self) -> bool:
        return not self._rest and next(self._frames, None) is None
