"""Keeping a repository: time, other keys, several signers. Read with python-tuf's own client."""

import os
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path

import pytest
from tuf.api.exceptions import RepositoryError

from appbundle.errors import AppbError, KeyNotAllowedError, NotFoundError, TrustError, UsageError
from appbundle.flows import sign as signing
from appbundle.flows import upkeep
from appbundle.flows.upkeep import Holders, Signed
from appbundle.names import AppName
from appbundle.repository.expiry import at
from appbundle.repository.publishing.roles import Roles, read_roles
from appbundle.trust.keys import PrivateKey
from appbundle.trust.sshsig import Signer
from tests.bundles import new_key
from tests.crash.support import KEY, make_bundle
from tests.repository.publisher import Publisher

Bundle = Callable[[str, int], Path]
HELLO = AppName("hello")


@pytest.fixture
def repo(memory: Path, bundle: Bundle) -> Publisher:
    """A repository with one release."""
    made = Publisher(memory)
    made.publish(bundle("hello", 1))
    return made


def roles(repo: Publisher) -> Roles:
    """What is published."""
    found = read_roles(repo.folder)
    assert found
    return found


def refresh(repo: Publisher) -> upkeep.Refreshed:
    """Run the timer's command."""
    return upkeep.refresh(repo.context, where=repo.folder)


def sign(repo: Publisher, signer: Signer) -> Signed:
    """Sign what waits for a key."""
    return upkeep.sign(repo.context, where=repo.folder, signer=signer)


def delegate(repo: Publisher, *to: PrivateKey, threshold: int = 1, key: Signer = KEY) -> Signed:
    """Say who may sign for hello."""
    return upkeep.delegate(
        repo.context, where=repo.folder, app=HELLO, to=holders(to, threshold), signer=key
    )


def rotate(
    repo: Publisher,
    *,
    root: Holders | None = None,
    targets: Holders | None = None,
    new_online: bool = False,
    key: Signer = KEY,
) -> Signed:
    """Change the top."""
    return upkeep.rotate(
        repo.context,
        where=repo.folder,
        root=root,
        targets=targets,
        new_online=new_online,
        signer=key,
    )


def holders(keys: Sequence[PrivateKey], threshold: int = 1) -> Holders:
    """Who is to hold a role."""
    return Holders(keys=tuple(key.public for key in keys), threshold=threshold)


def test_metadata_end_when_they_should(repo: Publisher) -> None:
    """Two years for the root, one for the roles that people sign, 30 days for the others."""
    found = roles(repo)
    hello = found.delegated("hello")
    assert hello
    ends = {
        "root": found.root.signed.expires,
        "targets": found.targets.signed.expires,
        "hello": hello.signed.expires,
        "snapshot": found.snapshot.signed.expires,
        "timestamp": found.timestamp.signed.expires,
    }
    assert {name: (end - at(repo.now)).days for name, end in ends.items()} == {
        "root": 730,
        "targets": 365,
        "hello": 365,
        "snapshot": 30,
        "timestamp": 30,
    }


def test_refresh_makes_only_what_is_needed(repo: Publisher) -> None:
    """A daily refresh makes a timestamp; the snapshot, which readers fetch, once in 15 days."""
    reader = repo.reader("seen")
    reader.versions("hello")
    done = refresh(repo.at(10))
    assert (roles(repo).timestamp.signed.version, roles(repo).snapshot.signed.version) == (2, 1)
    assert done.expires == at(repo.now) + timedelta(days=30)
    refresh(repo.at(16))
    assert (roles(repo).timestamp.signed.version, roles(repo).snapshot.signed.version) == (3, 2)
    assert repo.reader("seen").versions("hello") == ["1.0"]


def test_refresh_warns_of_what_people_sign(repo: Publisher) -> None:
    """Sixty days before roles end the timer's command names them, and signing mends it."""
    assert refresh(repo.at(300)).expiring == {}
    late = repo.at(320)
    assert set(refresh(late).expiring) == {"targets", "hello"}
    done = sign(late, KEY)
    assert set(done.outcome.published) == {"targets", "hello"}
    assert refresh(late).expiring == {}
    assert roles(repo).targets.signed.expires == at(late.now) + timedelta(days=365)


def test_refresh_needs_the_online_key(repo: Publisher) -> None:
    """Without it nothing can be made, and the error says where it was looked for."""
    repo.folder.online_key.rename(repo.base / "elsewhere")
    with pytest.raises(NotFoundError, match="online-key"):
        refresh(repo)


def test_expired_repository_can_be_mended(repo: Publisher, bundle: Bundle) -> None:
    """What readers refuse since it has expired, its publisher still reads."""
    old = Publisher(repo.base / "old", repo.now - 40 * 86_400)
    old.base.mkdir()
    old.publish(bundle("hello", 1))
    with pytest.raises(RepositoryError):
        old.contents("hello")
    now = old.at(40)
    refresh(now)
    assert now.contents("hello") == {"hello": ["1.0"]}


def test_old_metadata_are_removed_after_a_day(repo: Publisher, bundle: Bundle) -> None:
    """Replaced snapshots, roles and catalogs go; all roots, and what is current, stay."""
    repo.publish(bundle("hello", 2))
    assert refresh(repo).removed == 0
    for path in repo.folder.path.rglob("*.json"):
        os.utime(path, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns - 10**9 * 90_000))
    assert refresh(repo).removed > 0
    names = {path.name for path in repo.folder.metadata.iterdir()}
    assert {"1.root.json", "2.hello.json", "1.targets.json"} <= names
    assert not names & {"1.hello.json", "1.snapshot.json", "1.catalog.json"}
    assert len(list((repo.folder.targets / "catalog").iterdir())) == 1
    assert repo.contents("hello") == {"hello": ["1.0", "2.0"]}


def test_delegate_names_a_publisher(repo: Publisher, memory: Path) -> None:
    """Somebody else publishes an app of their own, and nothing else."""
    other = new_key()
    app = AppName("other")
    upkeep.delegate(repo.context, where=repo.folder, app=app, to=holders([other]), signer=KEY)
    repo.publish(make_bundle(memory, "other", "1.0", key=other), key=other)
    assert repo.contents("hello", "other") == {"hello": ["1.0"], "other": ["1.0"]}
    with pytest.raises(KeyNotAllowedError):
        repo.publish(make_bundle(memory, "hello", "2.0", key=other), key=other)
    with pytest.raises(KeyNotAllowedError):
        delegate(repo, other, key=other)


def test_app_changes_hands(repo: Publisher, bundle: Bundle, memory: Path) -> None:
    """The new publisher signs what the old one said before the change counts."""
    other = new_key()
    done = delegate(repo, other)
    assert done.outcome.published == ()
    assert done.outcome.waiting == {"hello": (0, 1)}
    assert done.unsigned == {"hello": ("1.0",)}
    assert repo.contents("hello") == {"hello": ["1.0"]}
    done = sign(repo, other)
    assert set(done.outcome.published) == {"targets", "hello"}
    assert repo.contents("hello") == {"hello": ["1.0"]}
    with pytest.raises(TrustError):
        repo.publish(bundle("hello", 2))
    repo.publish(make_bundle(memory, "hello", "2.0", release=2, key=other), key=other)
    assert repo.contents("hello") == {"hello": ["1.0", "2.0"]}


def test_threshold_of_an_app(repo: Publisher, bundle: Bundle, memory: Path) -> None:
    """A release that needs two signatures is seen with the second, wherever that is made."""
    other = new_key()
    delegate(repo, KEY, other, threshold=2)
    sign(repo, other)
    path = make_bundle(memory, "hello", "2.0", release=2)
    with pytest.raises(TrustError):
        repo.publish(path)
    signing.sign(repo.context, str(path), other)
    done = repo.publish(path)
    assert done.outcome.waiting == {"hello": (1, 2)}
    assert repo.contents("hello") == {"hello": ["1.0"]}
    assert sign(repo, other).outcome.published == ("hello",)
    assert repo.contents("hello") == {"hello": ["1.0", "2.0"]}
    assert not any(repo.folder.pending.iterdir())


def test_another_release_before_the_second_signature(
    repo: Publisher, bundle: Bundle, memory: Path
) -> None:
    """A proposal is built upon the one before; the other signer signs both at once."""
    other = new_key()
    delegate(repo, KEY, other, threshold=2)
    sign(repo, other)
    for number in (2, 3):
        path = make_bundle(memory, "hello", f"{number}.0", release=number)
        signing.sign(repo.context, str(path), other)
        repo.publish(path)
    sign(repo, other)
    assert repo.contents("hello") == {"hello": ["1.0", "2.0", "3.0"]}


def test_online_key_is_replaced(repo: Publisher, bundle: Bundle) -> None:
    """A reader of before follows the new root; the old online key signs nothing any more."""
    repo.reader("seen").versions("hello")
    old = repo.folder.online_key.read_bytes()
    done = rotate(repo, new_online=True)
    assert set(done.outcome.published) == {"root", "targets"}
    assert repo.folder.online_key.read_bytes() != old
    assert not repo.folder.next_online_key.exists()
    refresh(repo)
    repo.publish(bundle("hello", 2))
    assert repo.reader("seen").versions("hello") == ["1.0", "2.0"]
    assert len(roles(repo).timestamp.signatures) == 1
    repo.folder.online_key.write_bytes(old)
    with pytest.raises(NotFoundError):
        refresh(repo)


def test_online_key_is_replaced_by_several(repo: Publisher, bundle: Bundle) -> None:
    """Who holds the root and who holds the targets may be different people, in any order."""
    one, two = new_key(), new_key()
    rotate(repo, root=holders([one]))
    sign(repo, one)
    rotate(repo, targets=holders([two]), key=one)
    assert sign(repo, KEY).outcome.published == ()
    assert set(sign(repo, two).outcome.published) == {"root", "targets"}
    repo.reader("seen").versions("hello")
    done = rotate(repo, new_online=True, key=one)
    assert done.outcome.published == ()
    assert done.outcome.waiting == {"targets": (0, 1)}
    assert repo.contents("hello") == {"hello": ["1.0"]}
    assert set(sign(repo, two).outcome.published) == {"root", "targets"}
    repo.publish(bundle("hello", 2))
    reader = repo.reader("seen")
    assert reader.versions("hello") == ["1.0", "2.0"]
    assert reader.targets("catalog")


def test_lost_online_key_is_replaced(repo: Publisher) -> None:
    """Those who hold the root can do without the key that was lost."""
    repo.reader("seen").versions("hello")
    repo.folder.online_key.unlink()
    rotate(repo, new_online=True)
    assert repo.reader("seen").versions("hello") == ["1.0"]


def test_root_of_several(repo: Publisher) -> None:
    """A root is signed by the old holders and by enough of the new ones, one by one."""
    keys = [new_key() for _ in range(3)]
    repo.reader("seen").versions("hello")
    done = rotate(repo, root=holders(keys, 2), targets=holders(keys, 2))
    assert done.outcome.published == ()
    assert sign(repo, keys[0]).outcome.waiting == {"root": (1, 2), "targets": (1, 2)}
    assert repo.contents("hello") == {"hello": ["1.0"]}
    assert set(sign(repo, keys[2]).outcome.published) == {"root", "targets"}
    assert repo.reader("seen").versions("hello") == ["1.0"]
    with pytest.raises(KeyNotAllowedError):
        rotate(repo, new_online=True)
    rotate(repo, new_online=True, key=keys[1])
    assert roles(repo).root.signed.version == 2
    sign(repo, keys[0])
    assert roles(repo).root.signed.version == 3
    assert repo.reader("seen").versions("hello") == ["1.0"]


@pytest.mark.parametrize("threshold", [0, 3])
def test_role_that_nobody_could_sign_is_refused(repo: Publisher, threshold: int) -> None:
    """A threshold is between one and the number of different keys."""
    with pytest.raises(UsageError):
        delegate(repo, KEY, KEY, new_key(), threshold=threshold)
    with pytest.raises(UsageError):
        rotate(repo, root=holders([KEY, KEY, new_key()], threshold))


def test_forged_proposal_counts_for_nothing(repo: Publisher, bundle: Bundle) -> None:
    """What somebody puts into the folder unsigned is not signed by those who sign there next."""
    role = repo.folder.role("hello", 1).read_bytes().replace(b'"version":1', b'"version":2')
    repo.folder.proposal("hello").write_bytes(role.replace(b'"length":', b'"length":1'))
    assert sign(repo, KEY).roles == ()
    assert not repo.folder.proposal("hello").exists()


def test_publisher_without_the_online_key(repo: Publisher, bundle: Bundle) -> None:
    """A publisher elsewhere prepares; whoever has the online key publishes it."""
    elsewhere = repo.base / "elsewhere"
    repo.folder.online_key.rename(elsewhere)
    done = repo.publish(bundle("hello", 2))
    assert done.outcome.offline
    assert repo.contents("hello") == {"hello": ["1.0"]}
    elsewhere.rename(repo.folder.online_key)
    assert refresh(repo).outcome.published == ("hello",)
    assert repo.contents("hello") == {"hello": ["1.0", "2.0"]}


def test_prepared_release_needs_its_file(repo: Publisher, bundle: Bundle) -> None:
    """Metadata that came without their bundle are not published."""
    elsewhere = repo.base / "elsewhere"
    repo.folder.online_key.rename(elsewhere)
    (release,) = repo.publish(bundle("hello", 2)).releases
    (repo.folder.path / release.path).unlink()
    elsewhere.rename(repo.folder.online_key)
    with pytest.raises(AppbError, match="missing"):
        refresh(repo)


def test_stranger_signs_nothing(repo: Publisher) -> None:
    """A key that the repository does not name is told so."""
    with pytest.raises(KeyNotAllowedError):
        sign(repo, new_key())


def test_there_must_be_a_repository(memory: Path) -> None:
    """A mistyped directory is not made."""
    with pytest.raises(NotFoundError):
        refresh(Publisher(memory))
    assert not any(memory.iterdir())
