"""What a repository says of itself, verified by TUF and remembered. The TUF specification, 5.

Everything happens in a directory of its own, filled with what was trusted before; what was found
to be authentic is then put in place of it, durably. Without the right to write there nothing is
remembered, and everything else is the same.
"""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import cast

from tuf.api.exceptions import DownloadHTTPError, RepositoryError
from tuf.api.metadata import Metadata, Root, Signed, Snapshot, Targets, Timestamp
from tuf.ngclient import Updater, UpdaterConfig
from tuf.ngclient.fetcher import FetcherInterface

from appbundle.errors import NotFoundError
from appbundle.repository import refusals
from appbundle.repository.keys import keys_of, threshold_of
from appbundle.repository.transports.transport import Transport
from appbundle.system import files
from appbundle.trust.keys import PublicKey

METADATA = "metadata"
"""The folder of metadata in a repository."""

HISTORY = "root_history"
"""The folder, among those, of the roots that were trusted one after the other."""
_NOBODYS = "-"
"""The last part of a target's path that no target has."""
_CONFIG = UpdaterConfig(max_delegations=8)


@dataclass(frozen=True, slots=True, kw_only=True)
class Role:
    """What one delegated role vouches for.

    Args:
        keys: Those that may sign for it, each once.
        threshold: How many of them must.
        signed: All that it says, verified.
    """

    keys: tuple[PublicKey, ...]
    threshold: int
    signed: Targets


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
        if not _leads_to(self._targets, name, probe):
            return None
        self._fetcher.transport = transport
        with self._translated(transport):
            if self._updater.get_targetinfo(probe) is not None:
                raise RepositoryError(f"{probe} is a target")
        # Nobody else writes there, and the walk to the probe ends at this role, verified.
        return Role(
            keys=keys_of(self._targets, name),
            threshold=threshold_of(self._targets, name),
            signed=cast(Targets, self._load(name)),
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
    history = sorted((directory / HISTORY).glob("*.json"))
    ordered = history + sorted(found, key=lambda each: (rank.get(each.name, 0), each.name))
    return [each.relative_to(directory) for each in ordered]


def _leads_to(targets: Targets, name: str, probe: str) -> bool:
    """Whether a role of this name is the first that is asked for a target, and the last."""
    if targets.delegations is None:
        return False
    return next(targets.delegations.get_roles_for_target(probe), None) == (name, True)
