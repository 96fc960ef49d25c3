"""What a repository says of itself is believed only as TUF's specification allows, chapter 5.

The cases are those of the tuf-conformance suite that matter to a client which is itself built on
python-tuf, and those in which ours does more: its own clock, its pinned root, what it keeps.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tuf.api.metadata import DelegatedRole, Metadata, Targets

from appbundle.errors import (
    AppbError,
    CorruptError,
    ExpiredMetadataError,
    NotFoundError,
    RollbackError,
    UnsignedMetadataError,
)
from appbundle.names import AppName
from appbundle.repository.release import read_releases
from appbundle.repository.transports.local import LocalTransport
from appbundle.repository.trusted import Role, trusted
from tests.repository.simulator import Key, Simulator

DAY = timedelta(days=1)
PAST = datetime(2026, 1, 2, 3, 4, tzinfo=UTC)


class Client:
    """A node's view of a simulated repository.

    Args:
        simulator: The repository.
        cache: Where the node keeps what it trusts.
    """

    def __init__(self, simulator: Simulator, cache: Path) -> None:
        self.transport = Counting(simulator.folder)
        self.cache = cache
        self._pinned = simulator.first_root()

    def look(self, app: str = "hello", *, now: int | None = None) -> Role | None:
        """Refresh, and see what the repository says of an app."""
        now = int(time.time()) if now is None else now
        with trusted(self.cache, self._pinned, now=now) as metadata:
            metadata.refresh(self.transport)
            return metadata.role(app, self.transport)

    def refused(self, kind: type[AppbError], *, now: int | None = None) -> AppbError:
        """Expect a refusal."""
        with pytest.raises(kind) as caught:
            self.look(now=now)
        assert type(caught.value) is kind
        return caught.value

    def kept(self) -> dict[str, bytes]:
        """What the node keeps."""
        files = (each for each in self.cache.rglob("*") if each.is_file())
        return {str(each.relative_to(self.cache)): each.read_bytes() for each in files}

    def kept_version(self, role: str) -> int:
        """The version of a role's metadata that the node keeps."""
        return Metadata.from_file(str(self.cache / f"{role}.json")).signed.version


@dataclass(frozen=True)
class Counting(LocalTransport):
    """Notes what is read."""

    asked: list[str] = field(default_factory=list)

    def read(self, path: str, *, limit: int) -> bytes:
        """Read a file."""
        self.asked.append(path.removeprefix("metadata/"))
        return super().read(path, limit=limit)


@pytest.fixture
def simulator(tmp_path: Path) -> Simulator:
    """A repository with an app."""
    made = Simulator(tmp_path / "served")
    made.delegate("hello")
    made.add_release("hello", 1, b"bundle")
    made.publish("targets", "hello")
    return made


@pytest.fixture
def client(simulator: Simulator, tmp_path: Path) -> Client:
    """A node that has not seen it yet."""
    (tmp_path / "node").mkdir()
    return Client(simulator, tmp_path / "node/metadata")


@pytest.fixture
def known(client: Client) -> Client:
    """A node that has seen it."""
    client.look()
    return client


def test_only_what_is_new_is_read(simulator: Simulator, client: Client) -> None:
    """Each file is read once; nothing new is a timestamp, and the question for a next root."""
    asked = client.transport.asked
    client.look()
    assert asked == [
        "2.root.json", "timestamp.json", "2.snapshot.json", "2.targets.json", "2.hello.json",
    ]  # fmt: skip
    asked.clear()
    client.look()
    assert asked == ["2.root.json", "timestamp.json"]
    asked.clear()
    simulator.publish("hello")
    client.look()
    assert asked == ["2.root.json", "timestamp.json", "3.snapshot.json", "3.hello.json"]


def test_app_without_a_role_is_not_there(known: Client) -> None:
    """Nothing is read for an app that nobody is responsible for."""
    known.transport.asked.clear()
    assert known.look("other") is None
    assert "other" not in "".join(known.transport.asked)


# Signatures


@pytest.mark.parametrize("role", ["timestamp", "snapshot", "targets", "hello"])
@pytest.mark.parametrize("is_signed", [True, False])
def test_role_by_a_wrong_key_is_refused(
    simulator: Simulator, known: Client, role: str, *, is_signed: bool
) -> None:
    """Metadata by another key, or by none, are refused, and nothing of them is kept: attack 67."""
    simulator.publish("targets", "hello")
    simulator.write(role, keys=[Key(f"{role}-1")] if is_signed else [])
    known.refused(UnsignedMetadataError)
    assert known.kept_version("hello") == 2
    assert known.kept_version(role) == 2


def test_too_few_of_several_keys_are_refused(simulator: Simulator, client: Client) -> None:
    """A role with a threshold of two needs two of its keys; one of them twice is one."""
    simulator.delegate("hello", threshold=2, keys=3)
    simulator.publish("targets", "hello")
    keys = simulator.keys["hello"]
    simulator.write("hello", keys=[keys[0], keys[0]])
    client.refused(UnsignedMetadataError)
    simulator.write("hello", keys=[keys[0], Key("hello-0")])
    client.refused(UnsignedMetadataError)
    simulator.write("hello", keys=keys[1:])
    role = client.look()
    assert role is not None
    assert (role.threshold, len(role.keys)) == (2, 3)


@pytest.mark.parametrize("role", ["timestamp", "snapshot", "targets"])
def test_new_key_of_a_role_counts_and_the_old_one_no_longer(
    simulator: Simulator, known: Client, role: str
) -> None:
    """After a rotation by the root, what the old key signs is refused."""
    old = simulator.keys[role]
    simulator.rotate_root(role=role)
    simulator.publish("targets", "hello")
    simulator.write(role, keys=old)
    known.refused(UnsignedMetadataError)
    simulator.write(role)
    assert known.look() is not None


def test_new_key_of_an_app_counts_and_the_old_one_no_longer(
    simulator: Simulator, known: Client
) -> None:
    """The same for an app's key, which top-level targets name."""
    old, content = simulator.keys["hello"], simulator.signed["hello"]
    simulator.delegate("hello")
    simulator.signed["hello"] = content
    simulator.publish("targets", "hello")
    simulator.write("hello", keys=old)
    known.refused(UnsignedMetadataError)
    simulator.write("hello")
    role = known.look()
    assert role is not None
    assert [key.raw for key in role.keys] == [simulator.keys["hello"][0].raw]


# Roots


def test_roots_are_followed_one_by_one(simulator: Simulator, known: Client) -> None:
    """Each root is signed by the one before; a node that was away for long follows all of them."""
    for _ in range(5):
        simulator.rotate_root()
    simulator.publish("hello")
    assert known.look() is not None
    known.transport.asked.clear()
    known.look()
    assert known.transport.asked == ["7.root.json", "timestamp.json"]


def test_root_that_the_old_one_did_not_sign_is_refused(simulator: Simulator, known: Client) -> None:
    """A new root needs the old root's keys, and is not kept: attack 67."""
    before = known.kept()
    simulator.rotate_root()
    simulator.write("root")
    known.refused(UnsignedMetadataError)
    assert known.kept() == before


def test_root_that_did_not_sign_itself_is_refused(simulator: Simulator, known: Client) -> None:
    """A new root needs its own keys too."""
    old = simulator.keys["root"]
    simulator.rotate_root()
    simulator.write("root", keys=old)
    known.refused(UnsignedMetadataError)


def test_root_may_not_be_skipped(simulator: Simulator, known: Client) -> None:
    """What is served as the next root must be the next root: attack 40."""
    simulator.rotate_root()
    second = simulator.folder / "metadata/2.root.json"
    simulator.rotate_root()
    (simulator.folder / "metadata/3.root.json").rename(second)
    known.refused(UnsignedMetadataError)
    simulator.root.version = 3
    simulator.write("root", keys=[*simulator.keys["root"], *simulator.retired])
    (simulator.folder / "metadata/3.root.json").rename(second)
    known.refused(RollbackError)


# Versions


def test_older_timestamp_is_refused(simulator: Simulator, known: Client) -> None:
    """The timestamp's version never goes back: attack 36."""
    simulator.signed["timestamp"].version = 1
    simulator.write("timestamp")
    known.refused(RollbackError)
    assert known.kept_version("timestamp") == 2


def test_older_snapshot_is_refused(simulator: Simulator, known: Client) -> None:
    """Nor does that of the snapshot which a newer timestamp names."""
    simulator.signed["timestamp"].version = 3
    simulator.signed["timestamp"].snapshot_meta.version = 1
    simulator.write("timestamp")
    known.refused(RollbackError)


@pytest.mark.parametrize("role", ["targets", "hello"])
def test_older_role_in_a_newer_snapshot_is_refused(
    simulator: Simulator, known: Client, role: str
) -> None:
    """Nor does that of any role that a newer snapshot names."""
    simulator.publish("targets", "hello")
    known.look()
    simulator.signed[role].version = 2
    simulator.publish()
    for name in ("snapshot", "timestamp"):
        simulator.signed[name].version += 1
    simulator.publish()
    known.refused(RollbackError)


def test_role_may_not_vanish_from_the_snapshot(simulator: Simulator, known: Client) -> None:
    """A newer snapshot names every role that an older one named."""
    del simulator.signed["snapshot"].meta["hello.json"]
    for name in ("snapshot", "timestamp"):
        simulator.signed[name].version += 1
    simulator.signed["timestamp"].snapshot_meta.version += 1
    simulator.write("snapshot")
    simulator.write("timestamp")
    known.refused(CorruptError)


@pytest.mark.parametrize("role", ["targets", "hello"])
def test_files_of_different_times_are_refused(
    simulator: Simulator, known: Client, role: str
) -> None:
    """A role's file of another version than the snapshot names is refused: attack 38."""
    metadata = simulator.folder / "metadata"
    simulator.publish("targets", "hello")
    (metadata / f"2.{role}.json").replace(metadata / f"3.{role}.json")
    known.refused(RollbackError)


def test_versions_that_were_driven_up_can_be_brought_down(
    simulator: Simulator, known: Client
) -> None:
    """After somebody stole the online key and gave huge versions, a new one starts afresh: 39."""
    for name in ("timestamp", "snapshot"):
        simulator.signed[name].version = 1_000_000
    simulator.publish()
    known.look()
    simulator.rotate_root(role="timestamp")
    simulator.rotate_root(role="snapshot")
    for name in ("timestamp", "snapshot"):
        simulator.signed[name].version = 5
    simulator.publish()
    assert known.look() is not None
    assert known.kept_version("timestamp") == 5


# Time


@pytest.mark.parametrize(
    ("role", "mends"),
    [
        ("root", "appb repo sign DIR --key KEY"),
        ("timestamp", "appb repo refresh DIR"),
        ("snapshot", "appb repo refresh DIR"),
        ("targets", "appb repo sign DIR --key KEY"),
        ("hello", "appb repo sign DIR --key KEY"),
    ],
)
def test_what_is_out_of_date_is_refused(
    simulator: Simulator, known: Client, role: str, mends: str
) -> None:
    """An expired role is refused; the error says since when and what to run: attack 37."""
    simulator.signed[role].expires = PAST
    simulator.publish("targets", "hello", *(["root"] if role == "root" else []))
    error = known.refused(ExpiredMetadataError)
    assert role in error.what
    assert "2026-01-02 03:04 UTC" in error.what
    assert mends in error.hint


def test_root_on_the_way_may_be_out_of_date(simulator: Simulator, known: Client) -> None:
    """Only the last root has to be good today."""
    later = simulator.root.expires
    simulator.root.expires = PAST
    simulator.rotate_root()
    simulator.root.expires = later
    simulator.rotate_root()
    assert known.look() is not None


def test_repository_that_stands_still_goes_out_of_date(simulator: Simulator, known: Client) -> None:
    """What was good when it was fetched is refused when its time is over."""
    end = int(simulator.signed["timestamp"].expires.timestamp())
    assert known.look(now=end - 1) is not None
    error = known.refused(ExpiredMetadataError, now=end + 1)
    assert "timestamp" in error.what
    assert "appb repo refresh" in error.hint


# What is kept


@pytest.mark.parametrize("role", ["timestamp", "snapshot", "targets", "hello"])
def test_cache_that_somebody_changed_leads_nowhere(
    simulator: Simulator, known: Client, tmp_path: Path, role: str
) -> None:
    """Metadata in the cache that are not signed as they should be are fetched anew: attack 42."""
    other = Simulator(tmp_path / "other")
    other.delegate("hello")
    other.publish("targets", "hello")
    found = next((other.folder / "metadata").glob(f"*{role}.json"))
    (known.cache / f"{role}.json").write_bytes(found.read_bytes())
    looked = known.look()
    assert looked is not None
    assert looked.keys[0].raw == simulator.keys["hello"][0].raw


def test_root_in_the_cache_that_nobody_signed_leads_nowhere(
    simulator: Simulator, known: Client, tmp_path: Path
) -> None:
    """The way begins at the pinned root each time."""
    other = Simulator(tmp_path / "other")
    other.rotate_root()
    for number in (1, 2):
        forged = (other.folder / f"metadata/{number}.root.json").read_bytes()
        (known.cache / f"root_history/{number}.root.json").write_bytes(forged)
    looked = known.look()
    assert looked is not None
    assert looked.keys[0].raw == simulator.keys["hello"][0].raw


def test_node_that_may_not_write_remembers_nothing(simulator: Simulator, tmp_path: Path) -> None:
    """Whoever may not write there sees the same, and leaves nothing behind."""
    client = Client(simulator, tmp_path / "nowhere/metadata")
    assert client.look() is not None
    assert not client.cache.parent.exists()


def test_new_root_is_kept_though_what_follows_is_refused(
    simulator: Simulator, known: Client
) -> None:
    """What was found authentic protects from then on, whatever else was wrong."""
    simulator.rotate_root()
    simulator.write("timestamp", keys=[])
    known.refused(UnsignedMetadataError)
    assert "root_history/2.root.json" in known.kept()


# Nonsense


def large(_: bytes) -> bytes:
    """More than any role may have."""
    return b"[" * 6_000_000


def deep(_: bytes) -> bytes:
    """Nested more deeply than anybody can read."""
    return b"[" * 16_000


def short(raw: bytes) -> bytes:
    """Cut off."""
    return raw[: len(raw) // 2]


@pytest.mark.parametrize("change", [large, deep, short, lambda _: b""])
@pytest.mark.parametrize("role", ["2.root", "timestamp", "3.snapshot", "3.targets", "3.hello"])
def test_nonsense_is_refused(
    simulator: Simulator, known: Client, role: str, change: Callable[[bytes], bytes]
) -> None:
    """A file that is too large, or none of TUF's, is an error of its own, and is not kept."""
    simulator.rotate_root()
    simulator.publish("targets", "hello")
    file = simulator.folder / f"metadata/{role}.json"
    file.write_bytes(change(file.read_bytes()))
    known.refused(CorruptError)
    assert known.kept_version("hello") == 2


@pytest.mark.parametrize("role", ["timestamp", "3.snapshot", "3.targets", "3.hello"])
def test_file_that_is_missing_is_named(simulator: Simulator, known: Client, role: str) -> None:
    """A repository without one of its files is no repository."""
    simulator.publish("targets", "hello")
    (simulator.folder / f"metadata/{role}.json").unlink()
    assert role in known.refused(NotFoundError).what


def test_role_that_is_not_the_end_of_the_way_is_not_an_apps(
    simulator: Simulator, client: Client
) -> None:
    """An app's role is believed only if no other one can say something about the same paths."""
    delegations = simulator.targets.delegations
    assert delegations is not None
    assert delegations.roles is not None
    delegations.roles["hello"].terminating = False
    simulator.publish("targets")
    assert client.look() is None


@pytest.mark.parametrize("name", ["../../evil", "/evil", "a/b", ".."])
def test_role_with_a_path_for_a_name_is_not_followed(
    simulator: Simulator, known: Client, name: str
) -> None:
    """Nothing is asked for or written by a name that leads elsewhere: attack 41."""
    delegations = simulator.targets.delegations
    assert delegations is not None
    assert delegations.roles is not None
    app = delegations.roles.pop("hello")
    delegations.roles[name] = DelegatedRole(name, app.keyids, 1, True, paths=["hello/*"])
    delegations.roles["hello"] = app
    simulator.publish("targets")
    before = set(known.cache.parent.rglob("*"))
    known.transport.asked.clear()
    assert known.look() is None
    assert set(known.cache.parent.rglob("*")) == before
    assert known.transport.asked[-1] == "3.targets.json"


def test_target_paths_of_others_are_not_a_roles_to_give(
    simulator: Simulator, known: Client
) -> None:
    """What an app's role says of another app's paths is no release of it."""
    role: Targets = simulator.signed["hello"]
    role.targets["web/web-1.0.bundle"] = role.targets["hello/hello-1.0.bundle"]
    simulator.publish("hello")
    looked = known.look()
    assert looked is not None
    assert list(read_releases(AppName("hello"), looked.signed)) == ["1.0"]
    assert known.look("web") is None
