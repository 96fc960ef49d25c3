"""An excerpt of a repository, made from what a node has of it: for nodes without a network.

What is copied are the metadata that this node last trusted, as they came; whoever reads them
verifies them like those of the repository itself. docs/repository-format.md.
"""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata, Root, Signed, Snapshot, Targets, Timestamp

from appbundle.errors import CorruptError
from appbundle.layout import Layout
from appbundle.names import AppName, Version
from appbundle.repository import configured
from appbundle.repository.release import Release, read_releases
from appbundle.repository.trusted import HISTORY, METADATA
from appbundle.system import files


@dataclass(frozen=True, slots=True)
class Excerpt:
    """What a node last trusted of one repository.

    Args:
        layout: The node.
        repository: The repository's name on this node.
    """

    layout: Layout
    repository: str

    @property
    def _cache(self) -> Path:
        return self.layout.repository(self.repository) / METADATA

    def find(self, app: AppName, version: Version) -> Release | None:
        """Give what the app's role said of a release, when this node last looked.

        Raises:
            CorruptError: What was remembered is damaged.
        """
        raw = self._read(app)
        role = _parse(raw, app) if raw is not None else None
        return read_releases(app, role).get(version) if isinstance(role, Targets) else None

    def write(self, directory: Path, apps: Iterable[AppName]) -> None:
        """Write the metadata that describe apps, durably, the timestamp last.

        Args:
            directory: The excerpt's folder, where these apps' bundles are already.
        """
        target = directory / METADATA
        files.make_directories(target)
        for name, content in self._metadata(apps):
            path = target / name
            if not path.is_file() or path.read_bytes() != content:
                # Sticks come with file systems that know no modes.
                files.write_durably(path, content, mode=None)

    def _metadata(self, apps: Iterable[AppName]) -> Iterator[tuple[str, bytes]]:
        known = configured.read(self.layout, self.repository)
        pinned = configured.read_pinned(self.layout, known)
        roots = [each.read_bytes() for each in (self._cache / HISTORY).glob("*.json")]
        for raw in (pinned, *roots):
            yield _numbered(Root.type, raw), raw
        for role in (*sorted(apps), Targets.type, Snapshot.type):
            found = self._read(role)
            if found is None:
                raise CorruptError(
                    f"this node remembers nothing of {role} in {self.repository}",
                    hint="with a network: appb outdated",
                )
            yield _numbered(role, found), found
        timestamp = self._read(Timestamp.type)
        if timestamp is not None:
            yield f"{Timestamp.type}.json", timestamp

    def _read(self, role: str) -> bytes | None:
        try:
            return (self._cache / f"{role}.json").read_bytes()
        except FileNotFoundError:
            return None


def _numbered(role: str, raw: bytes) -> str:
    return f"{_parse(raw, role).version}.{role}.json"


def _parse(raw: bytes, role: str) -> Signed:
    try:
        parsed: Metadata[Any] = Metadata.from_bytes(raw)
    except RepositoryError as error:
        raise CorruptError(
            f"what this node remembers of {role} is damaged", hint="with a network: appb outdated"
        ) from error
    return cast(Signed, parsed.signed)


def is_same_file(path: Path, release: Release) -> bool:
    """Whether a file is the very bundle file that a repository describes."""
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == release.sha256
    except FileNotFoundError:
        return False
