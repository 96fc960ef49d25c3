"""The catalog: what `search` looks through. For information only: nothing is installed by it."""

import hashlib
from collections.abc import Mapping
from typing import Literal

import msgspec
from tuf.api.metadata import Targets

from appbundle.errors import CorruptError
from appbundle.names import Digest, Version
from appbundle.repository.release import Release, newest, sha256_of, stored_path
from appbundle.repository.transports.transport import Transport

ROLE = "catalog"
TARGET = "catalog/catalog.json"
MAX_SIZE = 8 << 20


class Newest(msgspec.Struct, frozen=True):
    """The newest release of a channel; size in bytes."""

    version: str
    release: int
    size: int


class Entry(msgspec.Struct, frozen=True, omit_defaults=True):
    """An app: one line about it, and its newest release in each channel."""

    summary: str = ""
    channels: dict[str, Newest] = {}


class Catalog(msgspec.Struct, frozen=True):
    """All apps of a repository by name."""

    format: Literal[1] = 1
    apps: dict[str, Entry] = {}


def describe(releases: Mapping[Version, Release], summary: str) -> Entry:
    """Make an app's entry."""
    found = {}
    for channel in sorted({c for each in releases.values() for c in each.channels}):
        if (best := newest(releases.values(), (channel,))) is not None:
            found[channel] = Newest(best.version, best.release, best.size)
    return Entry(summary, found)


def encode_catalog(catalog: Catalog) -> bytes:
    """Write a catalog as JSON."""
    return msgspec.json.encode(catalog, order="sorted")


def read_catalog(raw: bytes) -> Catalog:
    """Read a catalog whose length and hash were checked.

    Raises:
        CorruptError: It is not of this format.
    """
    try:
        return msgspec.json.decode(raw, type=Catalog)
    except msgspec.DecodeError as error:
        raise CorruptError(f"the repository's catalog is malformed: {error}") from error


def find(role: Targets) -> tuple[int, Digest]:
    """Give size and digest of the catalog that a verified role describes.

    Raises:
        CorruptError: It describes none.
    """
    target = role.targets.get(TARGET)
    if target is None or target.length > MAX_SIZE:
        raise CorruptError("the repository has no catalog, or one that is far too large")
    return target.length, sha256_of(target)


def fetch(role: Targets, transport: Transport) -> Catalog:
    """Read the catalog that a verified role describes.

    Raises:
        CorruptError: It is another one.
        AppbError: As `Transport.read`.
    """
    size, digest = find(role)
    raw = transport.read(stored_path(TARGET, digest), limit=size)
    if hashlib.sha256(raw).hexdigest() != digest:
        raise CorruptError(f"{transport.name} has another catalog than its metadata say")
    return read_catalog(raw)
