"""A repository's folder goes up to a registry: what is missing, in an order that readers survive.

Blobs of targets, what names them, roles, snapshot, then the timestamp: until it is there readers
see the state before. Everything but it has a version in its name and never changes. New roots come
last, as in the folder: the timestamp that comes with one is signed by the keys of both.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Annotated

import msgspec

from appbundle.errors import ConflictError, CorruptError, NotFoundError
from appbundle.names import Digest, escape
from appbundle.repository.registry.api import Descriptor, Registry
from appbundle.repository.registry.transport import (
    EMPTY,
    METADATA_TYPE,
    TARGETS_TYPE,
    TITLE,
    OciTransport,
    describe,
    encode_manifest,
    tag_of,
)
from appbundle.repository.registry.upload import (
    Read,
    has_blob,
    upload_blob,
    upload_bytes,
    upload_manifest,
)
from appbundle.repository.release import stored_path

Progress = Callable[[str, int, int], None]
"""Told the path of a target, the bytes that have gone up, and all of them."""

_FILE_TYPE = "application/octet-stream"
_JSON_TYPE = "application/json"
_MAX_METADATA = 64 << 20
_TIMESTAMP = "metadata/timestamp.json"
_FIRST_ROOT = "metadata/1.root.json"

_Size = Annotated[int, msgspec.Meta(ge=0, lt=1 << 60)]
_Number = Annotated[int, msgspec.Meta(ge=1, lt=1 << 60)]
_Role = Annotated[str, msgspec.Meta(pattern=r"^[a-z][a-z0-9-]{0,63}\.json$")]
_Sha256 = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]
_WORD = "[A-Za-z0-9][A-Za-z0-9.+~_-]*"
_Target = Annotated[str, msgspec.Meta(pattern=rf"^{_WORD}(/{_WORD})*$")]


class _Meta(msgspec.Struct):
    version: _Number


class _Hashes(msgspec.Struct):
    sha256: _Sha256


class _File(msgspec.Struct):
    length: _Size
    hashes: _Hashes


class _Signed(msgspec.Struct):
    """What matters of any role; what a role does not have is empty."""

    version: _Number
    meta: dict[_Role, _Meta] = {}
    targets: dict[_Target, _File] = {}


class _Envelope(msgspec.Struct):
    signed: _Signed


@dataclass(slots=True, kw_only=True)
class Pushed:
    """What a push has uploaded.

    Args:
        files: Targets.
        size_bytes: Of them.
        version: Of the timestamp that the registry has now.
    """

    files: int = 0
    size_bytes: int = 0
    version: int = 0


def push(
    folder: Path,
    registry: Registry,
    *,
    everything: bool = False,
    progress: Progress = lambda _, __, ___: None,
) -> Pushed:
    """Make a registry have what a folder has; one that was interrupted is finished by the next.

    Args:
        folder: Of the repository; may be published to meanwhile.
        registry: Where to; has to allow it.
        everything: Ask for every file, also where the registry's snapshot says that it is there.
        progress: Told how far each target is that is uploaded, from 0 bytes on.

    Returns:
        What it lacked.

    Raises:
        NotFoundError: There is no repository in the folder.
        CorruptError: A file of it is missing or malformed; or as `Registry.ask`.
        ConflictError: The registry has another repository, or a newer state of this one.
        AppbError: As `upload_blob`.
    """
    return _Push(folder, registry, progress).run(everything=everything)


@dataclass(slots=True)
class _Push:
    folder: Path
    registry: Registry
    progress: Progress
    pushed: Pushed = field(default_factory=Pushed)

    def run(self, *, everything: bool) -> Pushed:
        # Read first: it names all else, and what it names never changes.
        timestamp = self._local(_TIMESTAMP)
        version = _parse(timestamp, _TIMESTAMP).version
        self._check_same()
        self._check_not_newer(version, timestamp)
        upload_bytes(self.registry, EMPTY)
        self._push_snapshot(_snapshot_path(timestamp, _TIMESTAMP), everything=everything)
        self._check_not_newer(version, timestamp)
        self._put_file(_TIMESTAMP, timestamp)
        for path in self._roots():
            if everything or self._remote(path) is None:
                self._put_file(path, self._local(path))
        self.pushed.version = version
        return self.pushed

    def _push_snapshot(self, path: str, *, everything: bool) -> None:
        raw = self._local(path)
        there = {} if everything else self._remote_versions()
        roles = _versions(raw, path)
        # The role that names the others comes after them.
        for name in sorted(roles, key=lambda each: (each == "targets", each)):
            if there.get(name) != roles[name]:
                self._push_role(f"{roles[name]}.{name}")
        self._put_file(path, raw)

    def _push_role(self, stem: str) -> None:
        """Upload one version of a role, and its targets before it."""
        path = f"metadata/{stem}.json"
        raw = self._local(path)
        layers = [
            self._put_target(target, Digest(each.hashes.sha256), each.length)
            for target, each in _parse(raw, path).targets.items()
        ]
        if layers:
            upload_manifest(self.registry, f"targets-{stem}", encode_manifest(TARGETS_TYPE, layers))
        self._put_file(path, raw)

    def _put_target(self, target: str, digest: Digest, size: int) -> Descriptor:
        path = stored_path(target, digest)
        if not has_blob(self.registry, digest):
            self._upload(path, digest, size)
            self.pushed.files += 1
            self.pushed.size_bytes += size
        return Descriptor(
            media_type=_FILE_TYPE,
            digest=f"sha256:{digest}",
            size=size,
            annotations={TITLE: target.rpartition("/")[2]},
        )

    def _upload(self, path: str, digest: Digest, size: int) -> None:
        with _reader(self.folder / path, size) as content:

            def read(offset: int, length: int) -> bytes:
                self.progress(path, offset, size)
                return content(offset, length)

            upload_blob(self.registry, digest, size=size, read=read)

    def _put_file(self, path: str, content: bytes) -> None:
        upload_bytes(self.registry, content)
        manifest = encode_manifest(METADATA_TYPE, [describe(_JSON_TYPE, content)])
        upload_manifest(self.registry, tag_of(path), manifest)

    def _check_same(self) -> None:
        """The first root says which repository it is."""
        there = self._remote(_FIRST_ROOT)
        if there is not None and there != self._local(_FIRST_ROOT):
            raise ConflictError(
                f"{self.registry.address} has another repository than {self.folder}",
                hint="push to another path, one for each repository",
            )

    def _check_not_newer(self, version: int, timestamp: bytes) -> None:
        """Nobody who has read the registry may ever see an older state."""
        there = self._remote(_TIMESTAMP)
        if there is None or there == timestamp:
            return
        newest = _parse(there, _TIMESTAMP).version
        if newest >= version:
            raise ConflictError(
                f"{self.registry.address} has state {newest}, {self.folder} has {version}",
                hint="push from the folder that was published to last; or appb repo refresh it",
            )

    def _remote_versions(self) -> Mapping[str, int]:
        """The roles that the registry has complete: those of its current snapshot."""
        timestamp = self._remote(_TIMESTAMP)
        if timestamp is None:
            return {}
        path = _snapshot_path(timestamp, _TIMESTAMP)
        snapshot = self._remote(path)
        return {} if snapshot is None else _versions(snapshot, path)

    def _remote(self, path: str) -> bytes | None:
        try:
            return OciTransport(self.registry).read(path, limit=_MAX_METADATA)
        except NotFoundError:
            return None

    def _roots(self) -> Iterator[str]:
        for number in count(1):
            path = f"metadata/{number}.root.json"
            if not (self.folder / path).exists():
                return
            yield path

    def _local(self, path: str) -> bytes:
        try:
            return (self.folder / path).read_bytes()
        except FileNotFoundError as e:
            if path == _TIMESTAMP:
                raise NotFoundError(f"there is no repository in {self.folder}") from e
            raise CorruptError(f"{self.folder} lacks {path}") from e


@contextmanager
def _reader(path: Path, size: int) -> Iterator[Read]:
    """Open a target's file; it may be longer than memory."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError as e:
        raise CorruptError(f"{path} is missing") from e
    try:
        if os.fstat(fd).st_size != size:
            raise CorruptError(f"{path} does not have the {size} bytes that its role says")
        yield lambda offset, length: os.pread(fd, length, offset)
    finally:
        os.close(fd)


def _parse(raw: bytes, path: str) -> _Signed:
    try:
        return msgspec.json.decode(raw, type=_Envelope).signed
    except msgspec.MsgspecError as e:
        raise CorruptError(f"{path} is malformed: {escape(str(e))}") from e


def _snapshot_path(timestamp: bytes, path: str) -> str:
    versions = _versions(timestamp, path)
    if "snapshot" not in versions:
        raise CorruptError(f"{path} names no snapshot")
    return f"metadata/{versions['snapshot']}.snapshot.json"


def _versions(raw: bytes, path: str) -> dict[str, int]:
    meta = _parse(raw, path).meta
    return {name.removesuffix(".json"): each.version for name, each in meta.items()}
