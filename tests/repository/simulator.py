"""A repository made by hand with TUF's own classes: every part of it can be made wrong."""

import copy
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from securesystemslib.signer import CryptoSigner, Signature, Signer, SSlibKey
from tuf.api.metadata import (
    DelegatedRole,
    Delegations,
    Metadata,
    MetaFile,
    Root,
    Snapshot,
    TargetFile,
    Targets,
    Timestamp,
)

TOP = ("root", "timestamp", "snapshot", "targets")


class Key(Signer):
    """A key with a short name, as a repository's keys have."""

    def __init__(self, name: str) -> None:
        self._signer = CryptoSigner.generate_ed25519()
        made = self._signer.public_key
        self.public = SSlibKey(name, made.keytype, made.scheme, made.keyval)

    @property
    def public_key(self) -> SSlibKey:
        """With the short name."""
        return self.public

    @property
    def raw(self) -> bytes:
        """32 bytes."""
        return bytes.fromhex(self.public.keyval["public"])

    def sign(self, payload: bytes) -> Signature:
        """Sign as every Ed25519 key does."""
        return Signature(self.public.keyid, self._signer.sign(payload).signature)

    @classmethod
    def from_priv_key_uri(cls, *_: Any, **__: Any) -> "Key":
        """Not needed here."""
        raise NotImplementedError


@dataclass(slots=True)
class Simulator:
    """What a publisher has; `publish` writes the files that a server would serve.

    Args:
        folder: Where they go.
        keys: By role.
        signed: What roles say.
        contents: Of files, by target path.
        retired: Keys that the root named once.
    """

    folder: Path
    keys: dict[str, list[Key]] = field(default_factory=dict)
    signed: dict[str, Any] = field(default_factory=dict)
    contents: dict[str, bytes] = field(default_factory=dict)
    retired: list[Key] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Begin with the four roles, a key each."""
        now = datetime.now(UTC).replace(microsecond=0)
        later, soon = now + timedelta(days=365), now + timedelta(days=30)
        root = Root(expires=later)
        for role in TOP:
            key = Key(f"{role}-1")
            self.keys[role] = [key]
            root.add_key(key.public, role)
        self.signed = {
            "root": root,
            "timestamp": Timestamp(expires=soon),
            "snapshot": Snapshot(expires=soon),
            "targets": Targets(expires=later, delegations=Delegations({}, {})),
        }
        self.publish()

    @property
    def root(self) -> Root:
        """The root, to be changed."""
        found: Root = self.signed["root"]
        return found

    @property
    def targets(self) -> Targets:
        """The top-level targets, to be changed."""
        found: Targets = self.signed["targets"]
        return found

    def first_root(self) -> bytes:
        """What a node is given to begin with."""
        return (self.folder / "metadata/1.root.json").read_bytes()

    def first_root_sha256(self) -> str:
        """What a person types."""
        return hashlib.sha256(self.first_root()).hexdigest()

    def delegate(self, app: str, *, threshold: int = 1, keys: int = 1) -> Targets:
        """Delegate an app's paths to a role of its own."""
        made = [Key(f"{app}-{number}") for number in range(keys)]
        self.keys[app] = made
        delegations = self.targets.delegations
        assert delegations is not None
        assert delegations.roles is not None
        delegations.roles[app] = DelegatedRole(app, [], threshold, True, paths=[f"{app}/*"])
        for key in made:
            self.targets.add_key(key.public, app)
        role = Targets(expires=self.targets.expires)
        self.signed[app] = role
        return role

    def add(self, app: str, name: str, content: bytes, **custom: Any) -> None:
        """Add a target to an app's role."""
        path = f"{app}/{name}"
        made = TargetFile.from_data(path, content, ["sha256"])
        if custom:
            made.unrecognized_fields = {"custom": {"appb": custom}}
        self.signed[app].targets[path] = made
        self.contents[path] = content

    def add_release(self, app: str, number: int, content: bytes, **more: Any) -> None:
        """Add a bundle as version N.0."""
        self.add(
            app,
            f"{app}-{number}.0.bundle",
            content,
            release=number,
            digest=hashlib.sha256(f"{app} {number}".encode()).hexdigest(),
            **{"channels": ["stable"]} | more,
        )

    def publish(self, *roles: str) -> None:
        """Sign and write everything anew, with the next version of some roles and what follows.

        Args:
            roles: Those that changed, besides snapshot and timestamp; none for the first time.
        """
        snapshot: Snapshot = self.signed["snapshot"]
        if roles:
            for name in (*roles, "snapshot", "timestamp"):
                self.signed[name].version += 1
        for name, signed in self.signed.items():
            if isinstance(signed, Targets):
                snapshot.meta[f"{name}.json"] = MetaFile(signed.version)
        self.signed["timestamp"].snapshot_meta = MetaFile(snapshot.version)
        for name in self.signed:
            # A root has been written by whoever made it: it may need keys of two roots.
            if name != "root" or not self._file(name).exists():
                self.write(name)
        for path, content in self.contents.items():
            directory, _, base = path.rpartition("/")
            digest = hashlib.sha256(content).hexdigest()
            file = self.folder / "targets" / directory / f"{digest}.{base}"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)

    def write(self, name: str, *, keys: Iterable[Key] | None = None) -> Path:
        """Sign a role and write its file.

        Args:
            keys: Other ones than it should have.
        """
        metadata = Metadata(copy.deepcopy(self.signed[name]))
        for key in self.keys[name] if keys is None else keys:
            metadata.sign(key, append=True)
        file = self._file(name)
        file.parent.mkdir(parents=True, exist_ok=True)
        metadata.to_file(str(file))
        return file

    def _file(self, name: str) -> Path:
        prefix = "" if name == "timestamp" else f"{self.signed[name].version}."
        return self.folder / "metadata" / f"{prefix}{name}.json"

    def rotate_root(self, *, role: str = "root") -> None:
        """Give a top-level role another key; the new root is signed by old and new root keys."""
        old = self.keys["root"]
        self.retired += self.keys[role]
        key = Key(f"{role}-{self.root.version + 1}")
        for each in self.keys[role]:
            self.root.revoke_key(each.public.keyid, role)
        self.root.add_key(key.public, role)
        self.keys[role] = [key]
        self.root.version += 1
        self.write("root", keys=dict.fromkeys([*old, *self.keys["root"]]))
