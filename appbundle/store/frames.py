"""A bundle's payload as frames, each checked before anybody uses or unpacks it."""

from collections.abc import Callable, Iterator

from appbundle.bundle.container import decompress
from appbundle.bundle.manifest import Manifest
from appbundle.store.source import BundleStream
from appbundle.store.worker import check_frame


def checked(
    source: BundleStream, manifest: Manifest, *, progress: Callable[[int, int], None]
) -> Iterator[bytes]:
    """Give the payload's frames as they are, compressed, in order.

    Args:
        source: Stands at the payload's first byte.
        progress: Called with compressed bytes done and to do.

    Raises:
        CorruptError: A frame is not what was signed.
    """
    total, done = sum(frame.compressed_size for frame in manifest.frames), 0
    for index, frame in enumerate(manifest.frames):
        compressed = bytearray(frame.compressed_size)
        source.read_into(memoryview(compressed))
        check_frame(memoryview(compressed), frame.sha256, index)
        yield bytes(compressed)
        done += frame.compressed_size
        progress(done, total)


def plain(
    source: BundleStream, manifest: Manifest, *, progress: Callable[[int, int], None]
) -> Iterator[bytes]:
    """The same, unpacked."""
    for compressed, frame in zip(
        checked(source, manifest, progress=progress), manifest.frames, strict=True
    ):
        yield decompress(compressed, size=frame.size)
