"""Credentials of registries, from where `docker login` keeps them.

Source: docker's `config.json` (`auths`, `credHelpers`, `credsStore`), and the protocol of
docker-credential-helpers.
"""

import base64
import binascii
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec

from appbundle.errors import UsageError
from appbundle.names import escape
from appbundle.system import process

_MAX_BYTES = 1 << 20
_HELPER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}", re.ASCII)
_HELPER_TIMEOUT_S = 120.0
"""A helper may unlock a key ring."""
_NOT_FOUND = b"credentials not found"
_BY_TOKEN = "<token>"  # noqa: S105
"""The user's name that marks the secret as an identity token."""
_ALIASES = {"registry-1.docker.io": ("https://index.docker.io/v1/", "docker.io")}


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """Whom a registry may take us for.

    Args:
        user: Name; empty with an identity token.
        secret: Password, access token, or identity token.
        is_identity_token: Whether the secret is to be exchanged for tokens, by OAuth 2.
    """

    user: str
    secret: str
    is_identity_token: bool = False

    def __repr__(self) -> str:
        return f"Credentials(user={self.user!r})"


class _Entry(msgspec.Struct):
    auth: str = ""
    username: str = ""
    password: str = ""
    identitytoken: str = ""


class _Config(msgspec.Struct, rename="camel"):
    auths: dict[str, _Entry] = {}
    cred_helpers: dict[str, str] = {}
    creds_store: str = ""


class _Said(msgspec.Struct, rename="pascal"):
    username: str
    secret: str


def find_credentials(host: str, *, environment: Mapping[str, str]) -> Credentials | None:
    """Find what docker would use for a registry: the host's own helper, `auths`, the store.

    Args:
        host: Name, with `:PORT` if it is not the usual one.
        environment: Names the file, and is what helpers run in.

    Returns:
        None if nothing is there for the host.

    Raises:
        UsageError: The file makes no sense.
        UnsupportedError: A helper is not installed.
        ProgramError: A helper fails.
    """
    path = _path(environment)
    config = _read(path)
    for name in (host, *_ALIASES.get(host, ())):
        for found in _candidates(config, name, path, environment):
            if found is not None:
                return found
    return None


def _candidates(
    config: _Config, name: str, path: Path, environment: Mapping[str, str]
) -> Iterator[Credentials | None]:
    if helper := config.cred_helpers.get(name):
        yield _ask_helper(helper, name, environment)
    for key, entry in config.auths.items():
        if key == name or _host(key) == name:
            yield _decode(entry, path, key)
    if config.creds_store:
        yield _ask_helper(config.creds_store, name, environment)


def _path(environment: Mapping[str, str]) -> Path:
    if directory := environment.get("DOCKER_CONFIG"):
        return Path(directory) / "config.json"
    # Services of systemd have no HOME.
    home = environment.get("HOME") or os.path.expanduser("~")
    return Path(home) / ".docker" / "config.json"


def _read(path: Path) -> _Config:
    try:
        with path.open("rb") as file:
            raw = file.read(_MAX_BYTES)
        return msgspec.json.decode(raw, type=_Config)
    except (FileNotFoundError, NotADirectoryError):
        return _Config()
    except (OSError, msgspec.MsgspecError) as e:
        # Not what msgspec quotes, which may be a secret.
        reason = e.strerror if isinstance(e, OSError) else "it is not docker's JSON"
        raise UsageError(f"{escape(str(path))} cannot be read: {reason}") from e


def _host(key: str) -> str:
    """Old entries are addresses: `https://host/v1/`."""
    return key.removeprefix("https://").removeprefix("http://").partition("/")[0]


def _decode(entry: _Entry, path: Path, key: str) -> Credentials | None:
    if entry.identitytoken:
        return Credentials(user="", secret=entry.identitytoken, is_identity_token=True)
    user, secret = entry.username, entry.password
    if entry.auth:
        try:
            text = base64.b64decode(entry.auth, validate=True).decode()
        except (binascii.Error, UnicodeDecodeError) as e:
            raise UsageError(f"{escape(str(path))}: auth of {escape(key)} is not base64") from e
        user, _, secret = text.partition(":")
    # With a store, docker leaves empty entries.
    return Credentials(user=user, secret=secret.rstrip("\0")) if user or secret else None


def _ask_helper(helper: str, name: str, environment: Mapping[str, str]) -> Credentials | None:
    if not _HELPER_NAME.fullmatch(helper):
        raise UsageError(f"{escape(helper)} is not the name of a credential helper")
    program = f"docker-credential-{helper}"
    try:
        # It is the user's own, chosen to find what it needs in the user's environment.
        done = process.run(
            [program, "get"],
            environment=environment,
            timeout_s=_HELPER_TIMEOUT_S,
            given=name.encode(),
        )
        said = msgspec.json.decode(done.stdout, type=_Said)
    except process.ProgramError as e:
        if _NOT_FOUND in e.stdout:
            return None
        raise
    except msgspec.MsgspecError as e:
        raise UsageError(f"{program} does not answer with JSON as it should") from e
    by_token = said.username == _BY_TOKEN
    return Credentials(
        user="" if by_token else said.username, secret=said.secret, is_identity_token=by_token
    )
