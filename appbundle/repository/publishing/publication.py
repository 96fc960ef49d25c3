"""Writing new versions so that a reader, and a death, meet the old state or the new one.

Files of new versions are seen only once the timestamp leads to them, so it comes last. Only a new
root is seen at once: it comes after the timestamp, which its keys and the old ones have signed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tuf.api.metadata import Metadata, MetaFile, Snapshot, Targets, Timestamp

from appbundle.errors import CorruptError
from appbundle.names import AppName
from appbundle.repository import catalog
from appbundle.repository.expiry import ends_soon, expires
from appbundle.repository.keys import sign
from appbundle.repository.publishing import folder
from appbundle.repository.publishing.folder import Folder
from appbundle.repository.publishing.roles import Roles
from appbundle.repository.release import read_releases, target_file
from appbundle.trust.sshsig import Signer

SUMMARY = "x-appb-summary"
"""In an app's role: one line about it."""

Role = Metadata[Any]
"""Of a root, of targets, or of an app."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Publication:
    """The means of one publication.

    Args:
        folder: Of the repository.
        roles: What readers see; None if that is nothing yet.
        online: The online key, that of the next root included.
        now: Seconds since the epoch.
    """

    folder: Folder
    roles: Roles | None
    online: Sequence[Signer]
    now: int

    def publish(self, ready: Mapping[str, Role]) -> None:
        """Publish new versions of roles.

        Args:
            ready: The new versions by name, signed.

        Raises:
            CorruptError: A release's file is not there whole.
        """
        apps = {
            AppName(name): role.signed
            for name, role in ready.items()
            if isinstance(role.signed, Targets) and name != "targets"
        }
        for app, role in apps.items():
            self._check_files(app, role)
        versions = {}
        for name, made in ready.items():
            if name != "root":
                self._write(name, made)
                versions[name] = made.signed.version
        self._write_snapshot({**versions, catalog.ROLE: self._write_catalog(apps)})
        if "root" in ready:
            self._write("root", ready["root"])

    def refresh(self) -> None:
        """Publish a new timestamp, with a new snapshot and catalog where theirs is half over."""
        assert self.roles is not None
        versions = {}
        known = self.roles.delegated(catalog.ROLE)
        if known and ends_soon(catalog.ROLE, known.signed, self.now):
            versions[catalog.ROLE] = self._write_catalog({})
        snapshot = self.roles.snapshot.signed
        if versions or ends_soon("snapshot", snapshot, self.now):
            self._write_snapshot(versions)
        else:
            self._write_timestamp(snapshot.version)

    def _check_files(self, app: AppName, role: Targets) -> None:
        before = set(self.roles.releases(app).values()) if self.roles else set()
        for each in set(read_releases(app, role).values()) - before:
            path = self.folder.target(each.target, each.sha256)
            if not path.exists() or path.stat().st_size != each.size:
                raise CorruptError(f"{path} is missing or cut short", hint="publish it again")

    def _write_catalog(self, apps: Mapping[AppName, Targets]) -> int:
        """Write the catalog with what these apps' roles say now; gives its role's version."""
        entries = dict(self._entries())
        for app, role in apps.items():
            summary = str(role.unrecognized_fields.get(SUMMARY, ""))
            entries[app] = catalog.describe(read_releases(app, role), summary)
        raw = catalog.encode_catalog(catalog.Catalog(apps=entries))
        size, sha256 = folder.put_target(self.folder, catalog.TARGET, [raw])
        made = Targets(
            version=self.roles.version(catalog.ROLE) + 1 if self.roles else 1,
            expires=expires(catalog.ROLE, self.now),
            targets={catalog.TARGET: target_file(catalog.TARGET, size, sha256)},
        )
        return self._write_online(catalog.ROLE, Metadata(made))

    def _entries(self) -> Mapping[str, catalog.Entry]:
        role = self.roles.delegated(catalog.ROLE) if self.roles else None
        if role is None:
            return {}
        _, sha256 = catalog.find(role.signed)
        raw = self.folder.target(catalog.TARGET, sha256).read_bytes()
        return catalog.read_catalog(raw).apps

    def _write_snapshot(self, versions: Mapping[str, int]) -> None:
        known = self.roles.snapshot.signed if self.roles else Snapshot()
        made = Snapshot(
            version=known.version + 1 if self.roles else 1,
            expires=expires("snapshot", self.now),
            meta={**known.meta, **{f"{name}.json": MetaFile(v) for name, v in versions.items()}},
        )
        self._write_timestamp(self._write_online("snapshot", Metadata(made)))

    def _write_timestamp(self, snapshot: int) -> None:
        made = Timestamp(
            version=self.roles.timestamp.signed.version + 1 if self.roles else 1,
            expires=expires("timestamp", self.now),
            snapshot_meta=MetaFile(snapshot),
        )
        self._write_online("timestamp", Metadata(made))

    def _write_online(self, name: str, made: Metadata[Any]) -> int:
        sign(made, self.online)
        self._write(name, made)
        return int(made.signed.version)

    def _write(self, name: str, made: Metadata[Any]) -> None:
        folder.put(self.folder, self.folder.role(name, made.signed.version), made.to_bytes())
