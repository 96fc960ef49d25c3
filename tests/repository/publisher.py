"""A repository that `appb publish` makes, and python-tuf's own client to read it."""

import dataclasses
import hashlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tuf.api.exceptions import DownloadHTTPError
from tuf.api.metadata import TargetFile
from tuf.ngclient import FetcherInterface, Updater

from appbundle.errors import NotFoundError
from appbundle.flows import publish as publishing
from appbundle.flows.context import Context
from appbundle.flows.publish import Published
from appbundle.layout import Layout
from appbundle.names import Digest
from appbundle.repository import configured
from appbundle.repository.addition import FIRST_ROOT
from appbundle.repository.configured import Repository
from appbundle.repository.publishing.folder import Folder, open_folder
from appbundle.repository.transports.local import LocalTransport
from appbundle.repository.transports.transport import Transport
from appbundle.trust.sshsig import Signer
from tests.crash.support import KEY

NOW = int(time.time())
"""python-tuf's client has no other clock than the machine's."""


@dataclasses.dataclass(frozen=True, slots=True)
class Publisher:
    """A folder, and whoever publishes into it.

    Args:
        base: Holds the folder, and what is beside it.
        now: Seconds since the epoch.
    """

    base: Path
    now: int = NOW

    @property
    def folder(self) -> Folder:
        """Of the repository."""
        return open_folder(str(self.base / "repo"), None)

    @property
    def context(self) -> Context:
        """What flows are given."""
        return Context(layout=Layout(self.base), now=self.now, lock_timeout_s=0)

    def at(self, days: float) -> "Publisher":
        """The same so many days later."""
        return dataclasses.replace(self, now=self.now + round(days * 86_400))

    def publish(self, *paths: Path, key: Signer = KEY, channels: Any = ("stable",)) -> Published:
        """Publish bundle files."""
        names = [str(path) for path in paths]
        return publishing.publish(
            self.context, names, where=self.folder, channels=channels, signer=key
        )

    def reader(self, cache: str = "cache") -> "Reader":
        """A reader that knows the first root, and what `cache` has kept."""
        return Reader(self.folder.path, self.base / cache)

    def contents(self, *names: str) -> dict[str, list[str]]:
        """What a new reader finds of apps: the versions that it can fetch whole."""
        reader = self.reader(f"cache-{time.monotonic_ns()}")
        return {name: reader.versions(name) for name in names}


def first_root(folder: Path) -> Digest:
    """The hash that nodes are given."""
    return Digest(hashlib.sha256((folder / FIRST_ROOT).read_bytes()).hexdigest())


def use(layout: Layout, folder: Path, name: str = "site") -> None:
    """Let a node use a repository, as `appb repo add file://FOLDER#sha256=…` does."""
    urls, digest = (f"file://{folder}",), first_root(folder)
    site = Repository(name=name, urls=urls, root_sha256=digest)
    configured.add(layout, site, (folder / FIRST_ROOT).read_bytes())


class Reader(FetcherInterface):
    """Reads a repository with python-tuf's client, and counts the bytes of what it fetches.

    Args:
        folder: Of the repository.
        cache: Where the client keeps its metadata.
        transport: From where it is read; from the folder by default.
    """

    def __init__(self, folder: Path, cache: Path, transport: Transport | None = None) -> None:
        self._folder = folder
        self._transport = transport or LocalTransport(folder)
        self._cache = cache
        self._read: list[bytes] = []
        self._updater: Updater | None = None
        cache.mkdir(exist_ok=True)

    @property
    def fetched_bytes(self) -> int:
        """Bytes of the files that were fetched."""
        return sum(map(len, self._read))

    def _fetch(self, url: str) -> Iterator[bytes]:
        try:
            self._read.append(self._transport.read(url.removeprefix("repo:/"), limit=1 << 30))
        except NotFoundError as error:
            raise DownloadHTTPError(f"no {url}", 404) from error
        yield self._read[-1]

    @property
    def updater(self) -> Updater:
        """The client; it begins when it is first asked."""
        if self._updater is None:
            self._updater = Updater(
                str(self._cache),
                "repo:/metadata/",
                target_dir=str(self._cache),
                target_base_url="repo:/targets/",
                fetcher=self,
                bootstrap=(self._folder / "metadata/1.root.json").read_bytes(),
            )
            self._updater.refresh()
        return self._updater

    def targets(self, app: str) -> dict[str, TargetFile]:
        """What the client trusts the role of an app to describe."""
        if self.updater.get_targetinfo(f"{app}/none") is not None:
            raise AssertionError
        role: Any = self.updater._trusted_set[app]
        return dict(role.targets)

    def versions(self, app: str) -> list[str]:
        """The versions whose files the client fetches and finds to be right."""
        found = []
        for path, target in self.targets(app).items():
            file = Path(self.updater.download_target(target, str(self._cache / "file")))
            assert hashlib.sha256(file.read_bytes()).hexdigest() == target.hashes["sha256"]
            if path.endswith(".bundle"):
                found.append(path.removeprefix(f"{app}/{app}-").removesuffix(".bundle"))
        return sorted(found)
