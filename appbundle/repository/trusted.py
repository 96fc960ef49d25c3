"""What a repository says of itself, verified by TUF and remembered. The TUF specification, 5.

Everything happens in a directory of its own, filled with what was trusted before; what was found
to be authentic is then put in place of it, durably. Without the right to write there nothing is
remembered, and everything else is the same.
"""

import hashlib
import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

from tuf.api.exceptions import DownloadHTTPError, RepositoryError
from tuf.api.metadata import DelegatedRole, Metadata, Root, Signed, Snapshot, Targets, Timestamp
from tuf.ngclient import Updater, UpdaterConfig
from tuf.ngclient.fetcher import FetcherInterface

from appbundle.errors import CorruptError, NotFoundError
from appbundle.names import Digest, escape
from appbundle.repository import refusals
from appbundle.repository.transport import Transport
from appbundle.system import files
from appbundle.trust.keys import PublicKey

METADATA = "metadata"
"""The folder of metadata in a repository."""
TARGETS = "targets"
"""The folder of everything else."""

_HISTORY = "root_history"
_NOBODYS = "-"
"""The last part of a target's path that no target has."""
_HEX = re.compile(r"[0-9a-f]{64}", re.ASCII).fullmatch
_PATH = re.compile(r"[a-z0-9-]+/[0-9A-Za-z+~_-][0-9A-Za-z.+~_-]*", re.ASCII).fullmatch
_CONFIG = UpdaterConfig(max_delegations=8)


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A file of a repository as authentic metadata describe it.

    Args:
        path: In the repository's folder; no name that a server chose.
        size: Bytes.
        sha256: Of its content.
        custom: What else is said of it, as JSON.
    """

    path: str
    size: int
    sha256: Digest
    custom: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Role:
    """What one delegated role vouches for.

    Args:
        keys: Those of its keys that can sign bundles too, each once.
        threshold: How many of them must have signed.
        version: Of its metadata.
        expires: Seconds since the epoch.
        signed: All that it says, as TUF has it.
        targets: By TUF's target path.
    """

    keys: tuple[PublicKey, ...]
    threshold: int
    version: int
    expires: int
    signed: Targets
    targets: Mapping[str, Target]


class Trusted:
    """A repository's metadata; only what TUF's client has found authentic is given.

    Args:
        scratch: A directory that is filled with what was trusted before.
        cache: Where that is kept.
        pinned: The root metadata that the administrator trusts.
        now: Seconds since the epoch; never less than the latest that was seen.
    """

    def __init__(self, scratch: Path, cache: Path, pinned: bytes, *, now: int) -> None:
        self._scratch = scratch
        self._cache = cache
        self._pinned = pinned
        self._now = datetime.fromtimestamp(now, UTC)
        self._fetcher = _Fetcher()
        self._updater: Updater | None = None
        self._targets: Targets | None = None

    def refresh(self, transport: Transport) -> None:
        """Follow the repository from what is known to what is current.

        Raises:
            ExpiredMetadataError: Something is out of date.
            RollbackError: Something is older than was seen before.
            TrustError: Something is not signed as it should be.
            CorruptError: Something is not what it is said to be.
            NotFoundError, UnreachableError: It is not there.
        """
        self._fetcher.transport = transport
        with self._translated(transport):
            self._updater = Updater(
                str(self._scratch),
                METADATA,
                fetcher=self._fetcher,
                config=_CONFIG,
                bootstrap=self._pinned,
            )
            self._updater.refresh()
        for name in (Root.type, Timestamp.type, Snapshot.type):
            self._load(name)
        self._targets = cast(Targets, self._load(Targets.type))

    def role(self, name: str, transport: Transport) -> Role | None:
        """Give what a role says that top-level targets delegate `NAME/*` to, or None.

        Args:
            name: An app's, or that of the catalog.

        Raises:
            As `refresh`, which must have been called.
        """
        assert self._updater is not None
        assert self._targets is not None
        probe = f"{name}/{_NOBODYS}"
        delegated = _delegation(self._targets, name, probe)
        if delegated is None:
            return None
        self._fetcher.transport = transport
        with self._translated(transport):
            if self._updater.get_targetinfo(probe) is not None:
                raise RepositoryError(f"{probe} is a target")
        # Nobody else writes there, and the walk to the probe ends at this role, verified.
        signed = cast(Targets, self._load(name))
        return Role(
            keys=_keys(self._targets, delegated),
            threshold=delegated.threshold,
            version=signed.version,
            expires=int(signed.expires.timestamp()),
            signed=signed,
            targets={
                path: _target(path, each.length, each.hashes, each.custom)
                for path, each in signed.targets.items()
                if path.startswith(f"{name}/")
            },
        )

    @contextmanager
    def _translated(self, transport: Transport) -> Iterator[None]:
        """Say errors in appb's words, and keep what was found authentic in any case."""
        try:
            yield
        except DownloadHTTPError as error:
            raise NotFoundError(
                f"{transport.name} has no {error}", hint="is the address that of a repository?"
            ) from error
        except RepositoryError as error:
            raise refusals.translate(error, transport.name, self._expiry) from error
        finally:
            self._keep()

    def _load(self, name: str) -> Signed:
        """Read what was found authentic, and see whether it has expired by our own clock."""
        signed = Metadata.from_bytes((self._scratch / f"{name}.json").read_bytes()).signed
        if signed.is_expired(self._now):
            raise refusals.expired(self._fetcher.transport.name, name, signed.expires)
        return signed

    def _expiry(self, name: str) -> datetime | None:
        """Until when a role's metadata were good that were found authentic, but too old."""
        kept = self._scratch / f"{name}.json"
        raw = self._fetcher.seen.get(name) or (kept.read_bytes() if kept.is_file() else b"")
        try:
            return Metadata.from_bytes(raw).signed.expires
        except RepositoryError:
            return None

    def _keep(self) -> None:
        if not os.access(self._cache.parent, os.W_OK):
            return
        for path in _metadata_files(self._scratch):
            kept, content = self._cache / path, (self._scratch / path).read_bytes()
            if not kept.is_file() or kept.read_bytes() != content:
                files.make_directories(kept.parent)
                files.write_durably(kept, content)


@contextmanager
def trusted(cache: Path, pinned: bytes, *, now: int) -> Iterator[Trusted]:
    """Give a repository's metadata for as long as they are needed.

    Args:
        cache: What was trusted before; nothing of it is believed without being verified again.
        pinned: The root metadata that the administrator trusts: from there on it is followed anew
            each time, so that a cache that somebody changed leads nowhere.
        now: Seconds since the epoch.
    """
    with tempfile.TemporaryDirectory(prefix="appb-") as directory:
        scratch = Path(directory)
        for path in _metadata_files(cache):
            (scratch / path).parent.mkdir(exist_ok=True)
            (scratch / path).write_bytes((cache / path).read_bytes())
        yield Trusted(scratch, cache, pinned, now=now)


def read_target(target: Target, transport: Transport) -> bytes:
    """Read a small target whole.

    Raises:
        CorruptError: It is not what it is said to be.
    """
    content = transport.read(target.path, limit=target.size)
    if hashlib.sha256(content).hexdigest() != target.sha256:
        raise CorruptError(f"{target.path} of {transport.name} is not what its metadata say")
    return content


class _Fetcher(FetcherInterface):
    """Gives the updater what a transport reads, and remembers it by role."""

    transport: Transport

    def __init__(self) -> None:
        self.seen: dict[str, bytes] = {}

    def _fetch(self, url: str) -> Iterator[bytes]:
        raise NotImplementedError

    def download_bytes(self, url: str, max_length: int) -> bytes:
        """Read a file; errors of transports are appb's own already, but for what is missing."""
        try:
            content = self.transport.read(url, limit=max_length)
        except NotFoundError as error:
            raise DownloadHTTPError(url, 404) from error
        self.seen[_role_of(url)] = content
        return content


def _role_of(url: str) -> str:
    """`metadata/12.snapshot.json` is the snapshot's."""
    return url.rpartition("/")[2].removesuffix(".json").lstrip("0123456789").lstrip(".")


def _metadata_files(directory: Path) -> list[Path]:
    """Roots first, then what says least, the timestamp last; relative."""
    found = [each for each in directory.glob("*.json") if each.name != f"{Root.type}.json"]
    rank = {f"{Snapshot.type}.json": 1, f"{Timestamp.type}.json": 2}
    history = sorted((directory / _HISTORY).glob("*.json"))
    ordered = history + sorted(found, key=lambda each: (rank.get(each.name, 0), each.name))
    return [each.relative_to(directory) for each in ordered]


def _delegation(targets: Targets, name: str, probe: str) -> DelegatedRole | None:
    """The role of this name, if it is the first and only one that the probe leads to."""
    if targets.delegations is None or targets.delegations.roles is None:
        return None
    first = next(targets.delegations.get_roles_for_target(probe), None)
    return targets.delegations.roles[name] if first == (name, True) else None


def _keys(targets: Targets, delegated: DelegatedRole) -> tuple[PublicKey, ...]:
    assert targets.delegations is not None
    known = (targets.delegations.keys[each] for each in delegated.keyids)
    raw = (str(each.keyval["public"]) for each in known if each.keytype == "ed25519")
    return tuple(PublicKey(bytes.fromhex(each)) for each in dict.fromkeys(raw) if _HEX(each))


def _target(path: str, size: int, hashes: Mapping[str, str], custom: object) -> Target:
    digest = str(hashes.get("sha256"))
    if not _HEX(digest) or not _PATH(path):
        raise CorruptError(f"the metadata have an odd target: {escape(path)}")
    directory, _, name = path.rpartition("/")
    return Target(
        path=f"{TARGETS}/{directory}/{digest}.{name}",
        size=size,
        sha256=Digest(digest),
        custom=custom if isinstance(custom, dict) else {},
    )
