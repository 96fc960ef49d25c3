"""The statement that is signed, and the area that holds it. docs/format.md, "Signature area".

The statement is a few readable lines; each key stands once, in this order:

    appb-bundle-v1
    name: nova-api
    version: 34.0.0
    release: 2
    manifest-frame-size: 912345
    manifest-frame-sha256: <64 hex digits>
    manifest-size: 3512345
    manifest-sha256: <64 hex digits>
"""

import re
import struct
from dataclasses import dataclass

from appbundle.errors import CorruptError, UsageError
from appbundle.names import AppName, Digest, Version, parse_app_name, parse_version

MAX_MANIFEST_SIZE = 64 << 20
MAX_SIGNATURES = 16
AREA_STEP = 2048
"""The skippable frame that holds the area is a multiple of this: signing again rarely moves it."""
MAX_AREA_SIZE = 16 * AREA_STEP
RELEASE_LIMIT = 1 << 53

_LENGTH = struct.Struct("<I")
_STATEMENT = re.compile(
    rb"appb-bundle-v1\n"
    rb"name: ([a-z0-9-]{1,26})\n"
    rb"version: ([!-~]{1,63})\n"
    rb"release: (0|[1-9][0-9]{0,15})\n"
    rb"manifest-frame-size: ([1-9][0-9]{0,8})\n"
    rb"manifest-frame-sha256: ([0-9a-f]{64})\n"
    rb"manifest-size: ([1-9][0-9]{0,8})\n"
    rb"manifest-sha256: ([0-9a-f]{64})\n"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """What a signature says.

    Args:
        name: The app.
        version: Its version, for people.
        release: Its release number, compared against downgrades.
        manifest_frame_size: Bytes of the compressed manifest frame.
        manifest_frame_sha256: Of the compressed manifest frame.
        manifest_size: Bytes of the manifest's JSON.
        manifest_sha256: Of the manifest's JSON: the bundle's identity.
    """

    name: AppName
    version: Version
    release: int
    manifest_frame_size: int
    manifest_frame_sha256: Digest
    manifest_size: int
    manifest_sha256: Digest


def encode_statement(statement: Statement) -> bytes:
    """Write a statement as the lines that are signed."""
    return (
        "appb-bundle-v1\n"
        f"name: {statement.name}\n"
        f"version: {statement.version}\n"
        f"release: {statement.release}\n"
        f"manifest-frame-size: {statement.manifest_frame_size}\n"
        f"manifest-frame-sha256: {statement.manifest_frame_sha256}\n"
        f"manifest-size: {statement.manifest_size}\n"
        f"manifest-sha256: {statement.manifest_sha256}\n"
    ).encode()


def parse_statement(raw: bytes) -> Statement:
    """Read a statement; call it only with bytes whose signature was checked.

    Raises:
        CorruptError: Any byte is not as `encode_statement` writes it.
    """
    match = _STATEMENT.fullmatch(raw)
    if match is None:
        raise CorruptError("the statement does not have the form of appb-bundle-v1")
    name, version, release, frame_size, frame_sha256, size, sha256 = map(
        bytes.decode, match.groups()
    )
    try:
        app_name, app_version = parse_app_name(name), parse_version(version)
    except UsageError as error:
        raise CorruptError(f"the statement is malformed: {error.what}") from error
    statement = Statement(
        name=app_name,
        version=app_version,
        release=int(release),
        manifest_frame_size=int(frame_size),
        manifest_frame_sha256=Digest(frame_sha256),
        manifest_size=int(size),
        manifest_sha256=Digest(sha256),
    )
    if statement.release >= RELEASE_LIMIT:
        raise CorruptError("the statement's release number is too large")
    if max(statement.manifest_size, statement.manifest_frame_size) > MAX_MANIFEST_SIZE:
        raise CorruptError(f"the manifest is larger than {MAX_MANIFEST_SIZE} bytes")
    return statement


@dataclass(frozen=True, slots=True)
class Signed:
    """A statement's bytes with the signatures over them; neither is checked yet.

    Args:
        statement: As it was signed.
        signatures: Raw SSHSIG blobs (not armored).
    """

    statement: bytes
    signatures: tuple[bytes, ...] = ()


def encode_signed(signed: Signed) -> bytes:
    """Write the area without padding: statement, count, signatures, each with its length."""
    parts = [_LENGTH.pack(len(signed.statement)), signed.statement]
    parts.append(_LENGTH.pack(len(signed.signatures)))
    for signature in signed.signatures:
        parts += [_LENGTH.pack(len(signature)), signature]
    return b"".join(parts)


def parse_signed(area: bytes) -> Signed:
    """Read a signature area; what follows the last signature must be zero bytes.

    Raises:
        CorruptError: A length leaves the area, signatures are too many, or padding is not zero.
    """
    statement, position = _take(area, 0)
    if position + 4 > len(area):
        raise CorruptError("the signature area ends early")
    (count,) = _LENGTH.unpack_from(area, position)
    if count > MAX_SIGNATURES:
        raise CorruptError(f"the bundle carries more than {MAX_SIGNATURES} signatures")
    position += 4
    signatures = []
    for _ in range(count):
        signature, position = _take(area, position)
        signatures.append(signature)
    if area[position:].strip(b"\0"):
        raise CorruptError("the signature area's padding is not zero")
    return Signed(statement, tuple(signatures))


def _take(area: bytes, position: int) -> tuple[bytes, int]:
    if position + 4 > len(area):
        raise CorruptError("the signature area ends early")
    (length,) = _LENGTH.unpack_from(area, position)
    end = position + 4 + length
    if end > len(area):
        raise CorruptError("the signature area ends early")
    return area[position + 4 : end], end
