"""Whom a service runs as, and whose its state directory is."""

import os
from pathlib import Path

import pytest

from appbundle.errors import ConflictError
from appbundle.runtime import identity
from appbundle.runtime.plan import User

PASSWD = b"root:x:0:0::/root:/bin/sh\nappb-hello:x:990:991::/var/lib/hello:/sbin/nologin\n"


def _node(tmp_path: Path, passwd: bytes = b"") -> str:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").write_bytes(passwd)
    return str(tmp_path)


def _colliding() -> tuple[str, str]:
    """Two names that ask for the same number first."""
    seen: dict[int, str] = {}
    for number in range(100_000):
        name = f"app-{number}"
        other = seen.setdefault(identity.hashed_uid(name), name)
        if other != name:
            return other, name
    raise AssertionError("no two names collide")


def test_hashed_numbers_stay_in_range() -> None:
    """First and later choices lie where no ordinary user does, and wrap around at the end."""
    for attempt in (0, 1, 5000):
        uid = identity.hashed_uid("nova-api", attempt=attempt)
        assert identity.FIRST_UID <= uid <= identity.LAST_UID


def test_hashed_number_never_changes() -> None:
    """A node's state belongs to this number; another release of appb must choose the same."""
    assert identity.hashed_uid("hello") == 61206


def test_own_user_is_found_by_whole_name() -> None:
    """appb-hello is not the user of the app `hell`."""
    assert identity.find_user(PASSWD, "hello") == User(name="appb-hello", uid=990, gid=991)
    assert identity.find_user(PASSWD, "hell") is None


@pytest.mark.parametrize(
    "entry", [b"appb-x:x:0:5:", b"appb-x:x:5:0:", b"appb-x:x:a:5:", b"appb-x:"]
)
def test_root_and_nonsense_are_refused(entry: bytes) -> None:
    """A passwd file cannot make a service root, and a malformed entry is not skipped."""
    with pytest.raises(ConflictError):
        identity.find_user(PASSWD + entry + b"\n", "x")


@pytest.mark.root
class TestAsRoot:
    """Needs chown."""

    @pytest.fixture(autouse=True)
    def _as_root(self) -> None:
        if os.geteuid():
            pytest.skip("needs root")

    def test_static_user_owns_its_state(self, tmp_path: Path) -> None:
        """The passwd entry decides; the state directory is made for it, 0700."""
        user = identity.prepare(_node(tmp_path, PASSWD), "hello")
        status = (tmp_path / "var/lib/hello").stat()
        assert (user.uid, status.st_uid, status.st_gid) == (990, 990, 991)
        assert status.st_mode & 0o7777 == 0o700

    def test_umask_does_not_open_the_state(self, tmp_path: Path) -> None:
        """0700 whatever the caller's umask."""
        before = os.umask(0)
        try:
            identity.prepare(_node(tmp_path), "hello")
        finally:
            os.umask(before)
        assert (tmp_path / "var/lib/hello").stat().st_mode & 0o7777 == 0o700

    def test_colliding_names_get_different_numbers(self, tmp_path: Path) -> None:
        """No two apps share a user, and each keeps its own from then on."""
        first, second = _colliding()
        node = _node(tmp_path)
        uids = [identity.prepare(node, name).uid for name in (first, second, first, second)]
        assert uids[0] != uids[1]
        assert uids[:2] == uids[2:]

    def test_numbers_of_other_users_are_passed_over(self, tmp_path: Path) -> None:
        """A number in the passwd file, or given away by systemd, is not taken."""
        taken = identity.hashed_uid("hello")
        node = _node(tmp_path, b"someone:x:%d:5:\n" % taken)
        (tmp_path / f"run/systemd/dynamic-uid/{taken + 1}").mkdir(parents=True)
        assert identity.prepare(node, "hello").uid == taken + 2

    def test_foreign_state_is_refused(self, tmp_path: Path) -> None:
        """A directory of another package's user is neither taken over nor shown to the service."""
        node = _node(tmp_path)
        state = tmp_path / "var/lib/hello"
        state.mkdir(parents=True)
        os.chown(state, 105, 105)
        with pytest.raises(ConflictError, match="belongs to user 105"):
            identity.prepare(node, "hello")
        assert state.stat().st_uid == 105

    def test_roots_directory_with_content_is_refused(self, tmp_path: Path) -> None:
        """Only an empty one can be left from a start that was killed half-way."""
        node = _node(tmp_path)
        state = tmp_path / "var/lib/hello"
        state.mkdir(parents=True)
        (state / "file").touch()
        with pytest.raises(ConflictError):
            identity.prepare(node, "hello")
        (state / "file").unlink()
        assert identity.prepare(node, "hello").uid == state.stat().st_uid != 0

    @pytest.mark.parametrize("link", ["var", "var/lib", "var/lib/hello"])
    def test_links_on_the_way_are_refused(self, tmp_path: Path, link: str) -> None:
        """Nothing is made or given away behind a symbolic link."""
        node = _node(tmp_path)
        target = tmp_path / "target"
        target.mkdir()
        (tmp_path / link).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / link).symlink_to(target)
        with pytest.raises(ConflictError):
            identity.prepare(node, "hello")
        assert target.stat().st_uid == 0
        assert not list(target.iterdir())


def test_without_privileges_the_caller_owns_the_state(tmp_path: Path) -> None:
    """No chown is needed: inside, the caller's number is mapped to the app's."""
    user = identity.prepare_unprivileged(_node(tmp_path), "hello")
    assert user.uid == identity.hashed_uid("hello")
    status = (tmp_path / "var/lib/hello").stat()
    assert status.st_uid == os.geteuid()
    assert status.st_mode & 0o7777 == 0o700


def test_looking_creates_nothing(tmp_path: Path) -> None:
    """For a dry run the decision is made without a trace."""
    node = _node(tmp_path)
    identity.prepare(node, "hello", create=False)
    identity.prepare_unprivileged(node, "hello", create=False)
    assert not (tmp_path / "var").exists()
