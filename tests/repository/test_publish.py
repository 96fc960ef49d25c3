"""What `publish` writes, as python-tuf's own client reads it."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest

from appbundle.bundle.container import open_manifest_frame, read_head
from appbundle.bundle.statement import parse_statement
from appbundle.errors import (
    AppbError,
    ConflictError,
    CorruptError,
    KeyNotAllowedError,
    LockedError,
    TrustError,
    UsageError,
)
from appbundle.flows import sign
from appbundle.names import AppName
from appbundle.repository import catalog
from appbundle.repository.manifest_patch import apply_patch
from appbundle.repository.publishing.roles import read_roles
from appbundle.repository.release import newest
from appbundle.system.lock import lock
from appbundle.trust import keys
from tests.bundles import new_key, picture
from tests.crash.support import KEY, make_bundle
from tests.repository.publisher import Publisher
from tests.system.test_ssh_agent import add_key, agent, needs_agent

__all__ = ["agent"]

Bundle = Callable[[str, int], Path]


@pytest.fixture
def repo(memory: Path) -> Publisher:
    """A publisher with nothing published yet."""
    return Publisher(memory)


def test_first_use_makes_everything(repo: Publisher, bundle: Bundle) -> None:
    """A client that knows the first root by its digest fetches the bundle, byte for byte."""
    done = repo.publish(bundle("hello", 1))
    assert done.is_new
    root = repo.folder.role("root", 1).read_bytes()
    assert hashlib.sha256(root).hexdigest() == done.root_sha256
    assert repo.contents("hello") == {"hello": ["1.0"]}
    (release,) = done.releases
    assert (repo.folder.path / release.path).read_bytes() == bundle("hello", 1).read_bytes()


def test_online_key_is_outside(repo: Publisher, bundle: Bundle) -> None:
    """What is served holds no private key, and only its owner can read the online key."""
    repo.publish(bundle("hello", 1))
    assert repo.folder.online_key.stat().st_mode & 0o777 == 0o600
    for path in repo.folder.path.rglob("*"):
        assert path.is_dir() or b"PRIVATE KEY" not in path.read_bytes()


def test_releases_and_apps_are_added(repo: Publisher, bundle: Bundle) -> None:
    """Each publication adds to what is there, and a client that saw it before goes along."""
    repo.publish(bundle("hello", 1))
    assert repo.reader().versions("hello") == ["1.0"]
    repo.publish(bundle("hello", 2), bundle("other", 1))
    assert repo.reader().versions("hello") == ["1.0", "2.0"]
    assert repo.reader().versions("other") == ["1.0"]


def test_publishing_again_changes_nothing(repo: Publisher, bundle: Bundle) -> None:
    """The same file twice is once; readers have nothing new to fetch."""
    repo.publish(bundle("hello", 1))
    before = repo.folder.timestamp.read_bytes()
    done = repo.publish(bundle("hello", 1))
    assert not done.changed
    assert not done.is_new
    assert repo.folder.timestamp.read_bytes() == before


def test_channels_are_added(repo: Publisher, bundle: Bundle) -> None:
    """A release is tried in one channel and then joins another; each has its newest."""
    repo.publish(bundle("hello", 1))
    repo.publish(bundle("hello", 2), channels=["edge"])
    roles = read_roles(repo.folder)
    assert roles
    found = roles.releases(AppName("hello")).values()
    versions = [newest(found, (each,)).version for each in ("stable", "edge")]  # type: ignore[union-attr]
    assert versions == ["1.0", "2.0"]
    repo.publish(bundle("hello", 2))
    found = read_roles(repo.folder).releases(AppName("hello")).values()  # type: ignore[union-attr]
    assert newest(found, ("stable",)) == newest(found, ("edge",))


def test_catalog_names_newest_of_each_channel(repo: Publisher, memory: Path) -> None:
    """The catalog has a line for each app, with the newest release of each channel."""
    repo.publish(make_bundle(memory, "hello", "1.0", summary="says it"))
    repo.publish(make_bundle(memory, "hello", "1.1", release=2), channels=["edge"])
    reader = repo.reader()
    target = reader.targets("catalog")[catalog.TARGET]
    made = catalog.read_catalog(Path(reader.updater.download_target(target)).read_bytes())
    entry = made.apps["hello"]
    assert {name: each.version for name, each in entry.channels.items()} == {
        "stable": "1.0",
        "edge": "1.1",
    }


def read_manifest(path: Path) -> bytes:
    """The plain manifest of a bundle file."""
    with path.open("rb", buffering=0) as file:
        statement = parse_statement(read_head(file.read).signed.statement)
        frame = file.read(statement.manifest_frame_size)
    return open_manifest_frame(
        frame, size=statement.manifest_size, sha256=statement.manifest_sha256
    )


def test_manifest_patch_gives_the_manifest(repo: Publisher, bundle: Bundle) -> None:
    """Beside each release but the first there is its manifest as a patch of the one before."""
    one, two = repo.publish(bundle("hello", 1), bundle("hello", 2)).releases
    found = read_roles(repo.folder).releases(AppName("hello"))  # type: ignore[union-attr]
    one, two = found[one.version], found[two.version]
    assert one.patch is None
    assert two.patch is not None
    old, new = (read_manifest(bundle("hello", number)) for number in (1, 2))
    patch = (repo.folder.path / two.patch_path).read_bytes()
    assert apply_patch(patch, old, size=len(new)) == new


def test_only_newest_releases_have_patches(repo: Publisher, memory: Path) -> None:
    """Patches of old releases leave the metadata, which stays small."""
    for number in range(1, 8):
        repo.publish(make_bundle(memory, "hello", f"{number}.0", release=number))
    found = read_roles(repo.folder).releases(AppName("hello"))  # type: ignore[union-attr]
    assert [v for v, each in found.items() if each.patch] == ["5.0", "6.0", "7.0"]


def refused(
    repo: Publisher, kind: type[AppbError], *paths: Path, key: keys.PrivateKey = KEY
) -> None:
    """Publish what is to be refused; nothing changes."""
    before = picture(repo.folder.metadata)
    with pytest.raises(kind):
        repo.publish(*paths, key=key)
    assert picture(repo.folder.metadata) == before


def test_version_never_changes(repo: Publisher, bundle: Bundle, memory: Path) -> None:
    """Another bundle of a published version, or with its release number, is refused."""
    repo.publish(bundle("hello", 1))
    refused(repo, ConflictError, make_bundle(memory, "hello", "1.0", tree={"a": b"other"}))
    refused(repo, ConflictError, make_bundle(memory, "hello", "1.1", release=1))


def test_bundle_must_be_signed_by_the_apps_key(
    repo: Publisher, bundle: Bundle, memory: Path
) -> None:
    """What nodes would refuse is not published."""
    other = new_key()
    repo.publish(bundle("hello", 1))
    refused(repo, TrustError, make_bundle(memory, "hello", "2.0", release=2, key=other))
    refused(repo, KeyNotAllowedError, bundle("hello", 2), key=other)
    refused(repo, KeyNotAllowedError, make_bundle(memory, "new", "1.0", key=other), key=other)


def test_damaged_bundle_is_not_published(repo: Publisher, bundle: Bundle, memory: Path) -> None:
    """Every frame is checked while it is copied, and so is the end."""
    repo.publish(bundle("hello", 1))
    good = bundle("hello", 2).read_bytes()
    for bad in (good[:-1], good + b"x", good[:-50] + bytes([good[-50] ^ 1]) + good[-49:]):
        damaged = memory / "damaged.bundle"
        damaged.write_bytes(bad)
        refused(repo, CorruptError, damaged)
    assert not any(repo.folder.staging.iterdir())


@pytest.mark.parametrize("name", ["root", "targets", "snapshot", "timestamp", "catalog"])
def test_names_of_roles_are_no_apps(repo: Publisher, memory: Path, name: str) -> None:
    """An app named like one of TUF's own roles would stand in its way."""
    with pytest.raises(UsageError):
        repo.publish(make_bundle(memory, name, "1.0"))


def test_first_use_that_is_refused_serves_nothing(repo: Publisher, memory: Path) -> None:
    """A refused first bundle leaves no root that a second attempt would have to live with."""
    with pytest.raises(TrustError):
        repo.publish(make_bundle(memory, "hello", "1.0", key=new_key()))
    assert not any(repo.folder.metadata.iterdir())


@needs_agent
def test_agent_signs(
    repo: Publisher, memory: Path, agent: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A key that only ssh-agent holds makes a repository and adds to it."""
    key = add_key(agent)
    monkeypatch.setenv("SSH_AUTH_SOCK", agent)
    public = memory / "key.pub"
    public.write_text(f"{key.public.line}\n")
    signer = sign.open_signer(str(public), lambda _: "")
    for number in (1, 2):
        path = make_bundle(memory, "hello", f"{number}.0", release=number, key=key)
        repo.publish(path, key=signer)
    assert repo.contents("hello") == {"hello": ["1.0", "2.0"]}


def test_one_publisher_at_a_time(repo: Publisher, bundle: Bundle) -> None:
    """While somebody changes a repository others wait for the lock, and say whose it is."""
    repo.publish(bundle("hello", 1))
    with (
        lock(repo.folder.lock, purpose="publish", timeout_s=0),
        pytest.raises(LockedError, match=r"repo is being changed by: publish"),
    ):
        repo.publish(bundle("hello", 2))


def test_changed_folder_is_not_signed_again(repo: Publisher, bundle: Bundle) -> None:
    """Whoever can write to the folder cannot make the publisher sign what they have put there."""
    repo.publish(bundle("hello", 1))
    role = repo.folder.role("hello", 1)
    role.write_bytes(role.read_bytes().replace(b'"release":1', b'"release":0'))
    with pytest.raises(TrustError):
        repo.publish(bundle("hello", 2))
