"""The bundle file: preamble, manifest frame, payload frames, end. docs/format.md, "Container".

offset  content
0       PREAMBLE, an empty zstd frame
9       a skippable zstd frame with the signature area
…       the manifest frame: one zstd frame with the tar member .bundle/manifest.json
…       the payload frames
…       END_FRAME, the end of the tar stream
"""

import hashlib
import re
import struct
from collections.abc import Callable
from dataclasses import dataclass

import zstandard

from appbundle.bundle import tar
from appbundle.bundle.statement import AREA_STEP, MAX_AREA_SIZE, Signed, encode_signed, parse_signed
from appbundle.errors import CorruptError
from appbundle.names import Digest

PREAMBLE = bytes.fromhex("28b52ffd2000010000")
"""An empty zstd frame: `tar -tf` recognises zstd by it; a skippable frame's magic is also LZ4's."""
END_FRAME = bytes.fromhex("28b52ffd60000303200000")
"""A zstd frame of one run-length block: the 1,024 zero bytes that end a tar stream."""

_SKIPPABLE_MAGIC = 0x184D2A5A
_SKIPPABLE = struct.Struct("<II")

Read = Callable[[int], bytes]
"""Like a raw file's `read`: at most N bytes, fewer if fewer are there, none at the end."""


@dataclass(frozen=True, slots=True)
class Head:
    """What a bundle file begins with, up to the manifest frame; not authenticated.

    Args:
        signed: Statement and signatures.
        size: Bytes up to and without the manifest frame.
    """

    signed: Signed
    size: int


def encode_head(signed: Signed) -> bytes:
    """Write preamble and signature area.

    Raises:
        CorruptError: The signatures do not fit.
    """
    area = encode_signed(signed)
    total = -(-(_SKIPPABLE.size + len(area)) // AREA_STEP) * AREA_STEP
    if total > MAX_AREA_SIZE:
        raise CorruptError(f"the signatures take more than {MAX_AREA_SIZE} bytes")
    content_size = total - _SKIPPABLE.size
    return (
        PREAMBLE + _SKIPPABLE.pack(_SKIPPABLE_MAGIC, content_size) + area.ljust(content_size, b"\0")
    )


def read_head(read: Read) -> Head:
    """Read preamble and signature area from a stream that stands at a bundle's first byte.

    Raises:
        CorruptError: It is no bundle, or is cut short.
    """
    if read_exactly(read, len(PREAMBLE), of="preamble") != PREAMBLE:
        raise CorruptError("this is not a bundle: the preamble is missing")
    magic, size = _SKIPPABLE.unpack(read_exactly(read, _SKIPPABLE.size, of="signature area"))
    total = size + _SKIPPABLE.size
    if magic != _SKIPPABLE_MAGIC or total % AREA_STEP or not 0 < total <= MAX_AREA_SIZE:
        raise CorruptError("this is not a bundle: the signature area is malformed")
    signed = parse_signed(read_exactly(read, size, of="signature area"))
    head = Head(signed, len(PREAMBLE) + total)
    # One statement has one encoding: an area that is longer than it must be is a second one.
    if len(encode_head(signed)) != head.size:
        raise CorruptError("the signature area is padded more than it must be")
    return head


def read_exactly(read: Read, size: int, *, of: str) -> bytes:
    """Read `size` bytes, however many calls that takes.

    Raises:
        CorruptError: The stream ends before; `of` names what is cut short.
    """
    chunks = []
    while size:
        chunk = read(size)
        if not chunk:
            raise CorruptError(f"the bundle ends inside its {of}")
        chunks.append(chunk)
        size -= len(chunk)
    return b"".join(chunks)


def encode_manifest_frame(manifest: bytes, *, mtime: int, level: int) -> bytes:
    """Compress the manifest's JSON as the tar member that a bundle begins with."""
    header = tar.file_header(tar.MANIFEST_NAME, size=len(manifest), executable=False, mtime=mtime)
    return compress(header + manifest + bytes(tar.padding(len(manifest))), level=level)


def open_manifest_frame(frame: bytes, *, size: int, sha256: Digest) -> bytes:
    """Give the manifest's JSON out of its authenticated frame.

    Args:
        frame: Its bytes; the caller has checked their SHA-256.
        size: Signed bytes of the JSON.
        sha256: Signed digest of the JSON.

    Raises:
        CorruptError: It unpacks to anything else; never more than `size` and a block are made.
    """
    plain = decompress(frame, size=tar.BLOCK + size + tar.padding(size))
    manifest = plain[tar.BLOCK : tar.BLOCK + size]
    if hashlib.sha256(manifest).hexdigest() != sha256:
        raise CorruptError("the manifest's digest is not the one that was signed")
    return manifest


def compression_level(compression: str) -> int:
    """Read how hard zstd tried out of a manifest's `compression` (`zstd 1.5.7 level 12`).

    Raises:
        CorruptError: It does not say so.
    """
    match = re.search(r"level (\d{1,2})$", compression, re.ASCII)
    if match is None or int(match[1]) > zstandard.MAX_COMPRESSION_LEVEL:
        raise CorruptError("the manifest does not say how its frames were compressed")
    return int(match[1])


def compress(plain: bytes | memoryview, *, level: int) -> bytes:
    """Make one zstd frame with its content size and no checksum (the digests are checked)."""
    return zstandard.ZstdCompressor(level=level, write_checksum=False).compress(plain)


def decompress(frame: bytes | memoryview, *, size: int) -> bytes:
    """Unpack exactly one zstd frame into exactly `size` bytes.

    Raises:
        CorruptError: It is no zstd frame, says another size, or is followed by anything.
    """
    try:
        parameters = zstandard.get_frame_parameters(frame)
        if parameters.content_size != size or parameters.dict_id:
            raise CorruptError("a frame does not unpack to its signed size")
        # A window beyond the content would reserve memory that the signed size does not bound.
        if parameters.window_size > max(size, 1 << 10):
            raise CorruptError("a frame asks for a window larger than its content")
        decompressor = zstandard.ZstdDecompressor()
        plain = decompressor.decompress(
            frame, max_output_size=size, read_across_frames=False, allow_extra_data=False
        )
    except zstandard.ZstdError as error:
        raise CorruptError(f"a frame does not unpack: {error}") from error
    if len(plain) != size:
        raise CorruptError("a frame does not unpack to its signed size")
    return plain
