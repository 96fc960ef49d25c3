"""Credentials where `docker login` leaves them."""

import base64
import json
from pathlib import Path

import pytest

from appbundle.errors import AppbError, UnsupportedError, UsageError
from appbundle.repository.registry.docker_config import Credentials, find_credentials
from appbundle.system.process import ProgramError

HOST = "registry.example:5000"
TEAM = Credentials(user="team", secret="a:b")
AUTH = {"auth": base64.b64encode(b"team:a:b").decode()}

HELPER = """#!/bin/sh
read -r server
case "$1 $server" in
  "get registry.example:5000") echo '{{"ServerURL":"x","Username":"{user}","Secret":"a:b"}}' ;;
  *) echo "credentials not found in native keychain"; exit 1 ;;
esac
"""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home with helpers in its bin: `good`, `token`, `broken` and `odd`."""
    programs = {
        "good": HELPER.format(user="team"),
        "token": HELPER.format(user="<token>"),
        "broken": "#!/bin/sh\necho 'a:b'; echo 'locked out' >&2; exit 1\n",
        "odd": "#!/bin/sh\necho 'a:b'\n",
    }
    (tmp_path / "bin").mkdir()
    (tmp_path / ".docker").mkdir()
    for name, text in programs.items():
        path = tmp_path / "bin" / f"docker-credential-{name}"
        path.write_text(text)
        path.chmod(0o755)
    return tmp_path


def find(home: Path, config: object, host: str = HOST) -> Credentials | None:
    """What is found with this configuration."""
    (home / ".docker/config.json").write_text(json.dumps(config))
    environment = {"HOME": str(home), "PATH": f"{home}/bin:/usr/bin:/bin"}
    return find_credentials(host, environment=environment)


@pytest.mark.parametrize(
    "config",
    [
        {"auths": {HOST: AUTH}, "HttpHeaders": {"User-Agent": "x"}},
        {"auths": {f"https://{HOST}/v1/": AUTH}},
        {"auths": {HOST: {"username": "team", "password": "a:b"}}},
        {"credHelpers": {HOST: "good"}},
        {"credsStore": "good", "auths": {HOST: {}}},
        {"credHelpers": {HOST: "good"}, "auths": {HOST: {"auth": "b3RoZXI6eA=="}}},
        {"credsStore": "broken", "auths": {HOST: AUTH}},
    ],
)
def test_found(home: Path, config: object) -> None:
    """The host's own helper comes first, then what is in the file, then the store."""
    assert find(home, config) == TEAM


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"auths": {}},
        {"auths": {"other.example": AUTH, HOST: {}}},
        {"auths": {"registry.example": AUTH}},
        {"credHelpers": {"other.example": "broken"}},
    ],
)
def test_nothing_for_this_host(home: Path, config: object) -> None:
    """What is for one registry is never shown to another, nor to another port."""
    assert find(home, config) is None


def test_store_that_has_nothing(home: Path) -> None:
    """A helper's way to say so is no failure."""
    assert find(home, {"credsStore": "good"}, "other.example") is None


def test_identity_tokens(home: Path) -> None:
    """They are marked as such, in the file and by helpers."""
    expected = Credentials(user="", secret="a:b", is_identity_token=True)
    assert find(home, {"auths": {HOST: {**AUTH, "identitytoken": "a:b"}}}) == expected
    assert find(home, {"credHelpers": {HOST: "token"}}) == expected


def test_docker_hub_has_a_name_of_its_own(home: Path) -> None:
    """Its entry is not called as its API."""
    config = {"auths": {"https://index.docker.io/v1/": AUTH}}
    assert find(home, config, "registry-1.docker.io") == TEAM


def test_no_file(home: Path) -> None:
    """Most nodes have none; DOCKER_CONFIG names another directory."""
    assert find_credentials(HOST, environment={"HOME": str(home)}) is None
    find(home, {"auths": {HOST: AUTH}})
    elsewhere = {"DOCKER_CONFIG": str(home / ".docker"), "HOME": "/nonexistent"}
    assert find_credentials(HOST, environment=elsewhere) == TEAM


@pytest.mark.parametrize(
    ("config", "kind"),
    [
        ([], UsageError),
        ({"auths": {HOST: {"auth": "a:b"}}}, UsageError),
        ({"auths": {HOST: {"auth": ["a:b"]}}}, UsageError),
        ({"credsStore": "../good"}, UsageError),
        ({"credsStore": "odd"}, UsageError),
        ({"credsStore": "broken"}, ProgramError),
        ({"credsStore": "absent"}, UnsupportedError),
    ],
)
def test_what_makes_no_sense(home: Path, config: object, kind: type[AppbError]) -> None:
    """It is said, and no secret with it."""
    with pytest.raises(kind) as caught:
        find(home, config)
    assert "a:b" not in f"{caught.value.what} {caught.value.hint}"
    assert "a:b" not in repr(TEAM)
