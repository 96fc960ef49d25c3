"""What a folder says now, read from the top down: each role is verified by the one above it."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from tuf.api.metadata import Metadata, Root, Snapshot, Targets, Timestamp
from tuf.api.serialization import DeserializationError

from appbundle.errors import BadSignatureError, CorruptError
from appbundle.names import AppName, Version
from appbundle.repository.keys import is_signed
from appbundle.repository.publishing.folder import Folder
from appbundle.repository.release import Release, read_releases

_HINT = "the folder was damaged or changed: copy it back from where it is served or backed up"
S = TypeVar("S", Root, Timestamp, Snapshot, Targets)


@dataclass(slots=True)
class Roles:
    """The current metadata of a repository; expired ones too.

    Args:
        folder: Where they are.
        root: The newest.
        timestamp: Says which snapshot counts.
        snapshot: Says which version of every other role counts.
        targets: Says who may sign for which app.
    """

    folder: Folder
    root: Metadata[Root]
    timestamp: Metadata[Timestamp]
    snapshot: Metadata[Snapshot]
    targets: Metadata[Targets]
    _delegated: dict[str, Metadata[Targets] | None] = field(default_factory=dict)

    def version(self, name: str) -> int:
        """The current version of root, targets or a delegated role; 0 if it has none yet."""
        if name == "root":
            return int(self.root.signed.version)
        meta = self.snapshot.signed.meta.get(f"{name}.json")
        return meta.version if meta else 0

    def delegated_names(self) -> list[str]:
        """The roles that targets delegates to: apps and the catalog."""
        delegations = self.targets.signed.delegations
        return list((delegations.roles if delegations else None) or {})

    def delegated(self, name: str) -> Metadata[Targets] | None:
        """The current metadata of an app's role, or of the catalog's; None if there are none."""
        if name not in self._delegated:
            version = self.version(name)
            self._delegated[name] = (
                read(self.folder.role(name, version), Targets, self.targets.signed, name)
                if version
                else None
            )
        return self._delegated[name]

    def releases(self, app: AppName) -> dict[Version, Release]:
        """The current releases of an app by version."""
        role = self.delegated(app)
        return read_releases(app, role.signed) if role else {}


def read_roles(folder: Folder) -> Roles | None:
    """Read what a folder says now; None if it says nothing yet.

    Raises:
        CorruptError: A file is missing or malformed.
        BadSignatureError: One is not signed by whom it should be.
    """
    root = _read_root(folder)
    if root is None:
        return None
    timestamp = read(folder.timestamp, Timestamp, root.signed, "timestamp")
    version = timestamp.signed.snapshot_meta.version
    snapshot = read(folder.role("snapshot", version), Snapshot, root.signed, "snapshot")
    version = snapshot.signed.meta["targets.json"].version
    targets = read(folder.role("targets", version), Targets, root.signed, "targets")
    return Roles(folder, root, timestamp, snapshot, targets)


def _read_root(folder: Folder) -> Metadata[Root] | None:
    """Follow the roots from the first one to the last: each is signed by the one before."""
    newest: Metadata[Root] | None = None
    version = 1
    while (path := folder.role("root", version)).exists():
        found = read(path, Root, newest.signed if newest else None, "root")
        if not is_signed(found.signed, "root", found) or found.signed.version != version:
            raise BadSignatureError(f"{path} is not signed by its own keys", hint=_HINT)
        newest, version = found, version + 1
    return newest


def read(path: Path, kind: type[S], delegator: Root | Targets | None, name: str) -> Metadata[S]:
    """Read one file, and check who signed it.

    Args:
        delegator: Says who should have; None for nobody.
        name: Of the role.
    """
    try:
        found = parse(path.read_bytes(), kind)
    except FileNotFoundError as error:
        raise CorruptError(f"{path} is missing", hint=_HINT) from error
    if found is None:
        raise CorruptError(f"{path} is malformed", hint=_HINT)
    if delegator is not None and not is_signed(delegator, name, found):
        raise BadSignatureError(f"{path} is not signed by the keys that it should be", hint=_HINT)
    return found


def parse(raw: bytes, kind: type[S]) -> Metadata[S] | None:
    """Read metadata of a kind; None if they are anything else."""
    try:
        found: Metadata[S] = Metadata[S].from_bytes(raw)
    except DeserializationError:
        return None
    return found if isinstance(found.signed, kind) else None
