"""Secrets of apps: one file each in a generation, which only root reads.

Their values stand nowhere else: a generation's record says only where each is from.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from appbundle.errors import AppbError, CorruptError
from appbundle.layout import SECRETS, Layout
from appbundle.names import AppName
from appbundle.system import files

MODE = 0o600
_BYTES = 32


def make() -> str:
    """Make one that nobody guesses: 32 random bytes in base64url."""
    from base64 import urlsafe_b64encode

    return urlsafe_b64encode(os.urandom(_BYTES)).decode().rstrip("=")


def make_of(secret: str, app: str) -> str:
    """Make what an app is told of another one's secret: HMAC-SHA256 of its name, in base64url."""
    import hmac
    from base64 import urlsafe_b64encode

    digest = hmac.digest(secret.encode("utf-8", "surrogateescape"), app.encode(), "sha256")
    return urlsafe_b64encode(digest).decode().rstrip("=")


def path(layout: Layout, generation: int, app: AppName, name: str) -> Path:
    """Where one is."""
    return layout.secrets(generation) / app / name


def read(layout: Layout, generation: int, app: AppName, name: str) -> str:
    """Read one.

    Raises:
        AppbError: We may not.
        CorruptError: It is gone.
    """
    file = path(layout, generation, app, name)
    try:
        return file.read_text()
    except PermissionError as error:
        raise AppbError(f"only root may see the secret {name} of {app}") from error
    except FileNotFoundError as error:
        raise CorruptError(
            f"the secret {name} of {app} is gone from generation {generation}",
            hint=f"appb set {app} --from-file {name}=FILE",
        ) from error


def write(directory: Path, app: AppName, values: Mapping[str, str]) -> None:
    """Write an app's secrets into a generation that is prepared."""
    if values:
        files.make_directory(directory / SECRETS, mode=files.PRIVATE_MODE)
        _fill(directory / SECRETS / app, values)


def keep(layout: Layout, app: AppName, values: Mapping[str, str]) -> None:
    """Keep an app's secrets while it is removed: its state may be worthless without them."""
    forget(layout, app)
    if values:
        files.make_directory(layout.kept_secrets, mode=files.PRIVATE_MODE)
        _fill(layout.kept_secrets / app, values, sync=True)
        files.fsync_directory(layout.kept_secrets / app)
        files.fsync_directory(layout.kept_secrets)


def _fill(home: Path, values: Mapping[str, str], *, sync: bool = False) -> None:
    files.make_directory(home, mode=files.PRIVATE_MODE)
    for name, value in values.items():
        files.write_new(home / name, value.encode(), mode=MODE, sync=sync)


def kept(layout: Layout, app: AppName) -> dict[str, str]:
    """What was kept of an app."""
    try:
        return {each.name: each.read_text() for each in (layout.kept_secrets / app).iterdir()}
    except (FileNotFoundError, PermissionError):
        return {}


def forget(layout: Layout, app: AppName) -> None:
    """Keep nothing of an app any more."""
    files.remove_tree(layout.kept_secrets / app)


def purge(layout: Layout, app: AppName, numbers: list[int]) -> None:
    """Remove an app's secrets from generations, and what was rendered with them."""
    forget(layout, app)
    for number in numbers:
        files.remove_tree(layout.secrets(number) / app)
        files.remove_tree(layout.rendered(number) / app)
