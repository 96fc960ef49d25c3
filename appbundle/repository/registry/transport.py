"""A repository in an OCI registry: where its files are there, and reading them.

    targets/…/SHA256.NAME    the blob of that digest; a node needs nothing else to find it
    metadata/NAME.json       the only layer of the manifest with the tag `metadata-NAME`

Registries keep blobs only as long as a manifest names them, so each role that has targets comes
with a manifest `targets-VERSION.ROLE` that names theirs, for registries alone.
"""

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import msgspec

from appbundle.errors import CorruptError, DeniedError, NotFoundError, UnreachableError
from appbundle.names import Digest, escape
from appbundle.repository.registry.api import MANIFEST_TYPE, Descriptor, Registry
from appbundle.repository.transports.http_client import Response
from appbundle.repository.transports.ranges import Remote, read_stretches
from appbundle.repository.transports.transport import Stretch

METADATA_TYPE = "application/vnd.appbundle.metadata.v1+json"
TARGETS_TYPE = "application/vnd.appbundle.targets.v1"
TITLE = "org.opencontainers.image.title"
"""The annotation from which other tools take a file's name."""

EMPTY = b"{}"
"""The configuration of a manifest that is of no image."""
_EMPTY_TYPE = "application/vnd.oci.empty.v1+json"
_MAX_FILE_MANIFEST = 4096
_TARGET = re.compile(r"targets/(?:[^/]+/)*([0-9a-f]{64})\.[^/]+", re.ASCII)
_METADATA = re.compile(r"metadata/([A-Za-z0-9][A-Za-z0-9._-]{0,110})\.json", re.ASCII)


class Manifest(msgspec.Struct, frozen=True, rename="camel"):
    """What an image's manifest says, as far as it matters for files."""

    schema_version: int
    media_type: str
    artifact_type: str
    config: Descriptor
    layers: tuple[Descriptor, ...]


class _Layers(msgspec.Struct):
    layers: tuple[Descriptor, ...]


@dataclass(frozen=True, slots=True)
class OciTransport:
    """Reads a repository's files from a registry.

    Args:
        registry: One repository of it.
    """

    registry: Registry

    @property
    def name(self) -> str:
        """The address, which has nothing in it that should not be shown."""
        return str(self.registry.address)

    def read(self, path: str, *, limit: int) -> bytes:
        """Read a small file whole, with its digest compared; what breaks off is asked once more."""
        try:
            return self._read(path, limit)
        except DeniedError:
            raise
        except UnreachableError:
            return self._read(path, limit)

    def _read(self, path: str, limit: int) -> bytes:
        digest = _digest_of(path)
        if digest is None:
            digest = self._find(path, limit)
        return self.registry.read_blob(digest, limit=limit)

    def _find(self, path: str, limit: int) -> Digest:
        """Ask which blob a tag means just now."""
        tag = tag_of(path)
        raw = self.registry.read_manifest(tag, limit=_MAX_FILE_MANIFEST)
        try:
            (layer,) = msgspec.json.decode(raw, type=_Layers).layers
        except (msgspec.MsgspecError, ValueError) as e:
            raise CorruptError(f"tag {tag} of {self.name} is not of one file") from e
        if layer.size > limit:
            raise CorruptError(f"{path} of {self.name} has more than {limit} bytes")
        return layer.sha256

    def read_stretches(
        self, path: str, *, file_size: int, stretches: Sequence[Stretch]
    ) -> Iterator[bytes]:
        """Read parts of a target."""
        digest = _digest_of(path)
        if digest is None:
            raise NotFoundError(f"{self.name} has only small files beside targets")

        def ask(headers: Mapping[str, str]) -> Response:
            response = self.registry.open_blob(digest, headers=headers)
            self.registry.check_access(response)
            return response

        return read_stretches(
            Remote(name=f"{path} in {self.name}", size=file_size, ask=ask), stretches
        )


def tag_of(path: str) -> str:
    """Which tag means a file of metadata.

    Raises:
        NotFoundError: A registry can have no such file.
    """
    found = _METADATA.fullmatch(path)
    if found is None:
        raise NotFoundError(f"no registry has {escape(path)}")
    return f"metadata-{found[1]}"


def _digest_of(path: str) -> Digest | None:
    found = _TARGET.fullmatch(path)
    return Digest(found[1]) if found else None


def describe(media_type: str, content: bytes) -> Descriptor:
    """Say what a manifest says of a blob."""
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    return Descriptor(media_type=media_type, digest=digest, size=len(content))


def encode_manifest(artifact_type: str, layers: Sequence[Descriptor]) -> bytes:
    """Write a manifest that names files; the same ones give the same bytes."""
    manifest = Manifest(
        schema_version=2,
        media_type=MANIFEST_TYPE,
        artifact_type=artifact_type,
        config=describe(_EMPTY_TYPE, EMPTY),
        layers=tuple(layers),
    )
    return msgspec.json.encode(manifest)
