"""A manifest as what changed since another one: what a repository serves beside a bundle.

Two releases' manifests differ in few places, but each is most of a megabyte compressed. A patch is
one zstd frame that refers to the older manifest's bytes (as `zstd --patch-from` makes it).
"""

import zstandard

from appbundle.bundle.statement import MAX_MANIFEST_SIZE
from appbundle.errors import CorruptError

_LEVEL = 19
_MAX_WINDOW = 2 * MAX_MANIFEST_SIZE


def make_patch(previous: bytes, manifest: bytes) -> bytes:
    """Write a manifest as its difference from another.

    Args:
        previous: JSON of the older manifest.
        manifest: JSON of the newer one.
    """
    # The window reaches back over both, so that all of the older one can be referred to.
    window_log = max(zstandard.WINDOWLOG_MIN, (len(previous) + len(manifest)).bit_length())
    parameters = zstandard.ZstdCompressionParameters.from_level(
        _LEVEL, window_log=window_log, enable_ldm=True, write_checksum=False
    )
    compressor = zstandard.ZstdCompressor(
        dict_data=_dictionary(previous), compression_params=parameters
    )
    return compressor.compress(manifest)


def apply_patch(patch: bytes, previous: bytes, *, size: int) -> bytes:
    """Give the newer manifest's JSON; the caller has authenticated the patch and checks the result.

    Args:
        patch: From `make_patch`.
        previous: JSON of the manifest that it was made against.
        size: Signed bytes of the newer one; no more are made.

    Raises:
        CorruptError: It is no patch that gives so many bytes.
    """
    try:
        parameters = zstandard.get_frame_parameters(patch)
        if parameters.content_size != size or parameters.window_size > _MAX_WINDOW:
            raise CorruptError("the manifest's patch does not unpack to the signed size")
        decompressor = zstandard.ZstdDecompressor(
            dict_data=_dictionary(previous), max_window_size=_MAX_WINDOW
        )
        manifest = decompressor.decompress(patch, max_output_size=size, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise CorruptError(f"the manifest's patch does not unpack: {error}") from error
    if len(manifest) != size:
        raise CorruptError("the manifest's patch does not unpack to the signed size")
    return manifest


def _dictionary(previous: bytes) -> zstandard.ZstdCompressionDict:
    return zstandard.ZstdCompressionDict(previous, dict_type=zstandard.DICT_TYPE_RAWCONTENT)
