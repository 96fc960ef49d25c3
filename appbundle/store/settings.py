"""What the administrator of a node has decided: trusted keys and node settings."""

import tomllib
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from appbundle.errors import CorruptError, UsageError
from appbundle.layout import Layout
from appbundle.names import AppName
from appbundle.system import files


class Threshold(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How many distinct keys must have signed apps of a name.

    Args:
        apps: A pattern for app names, as `nova-*`.
        keys: How many, from 1 up.
    """

    apps: str
    keys: Annotated[int, msgspec.Meta(ge=1)]


class Retention(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What `gc` keeps when it is not told otherwise.

    Args:
        keep: Newest versions of each app that are kept whatever their age.
        older_than_days: Age below which nothing is removed.
    """

    keep: Annotated[int, msgspec.Meta(ge=0)] = 3
    older_than_days: Annotated[int, msgspec.Meta(ge=0)] = 30


class Services(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Who keeps services running.

    Args:
        manager: `auto` is systemd where that runs, else the embedded supervisor.
        supervisor: What the embedded one is; `auto` is s6 where it is installed.
    """

    manager: Literal["auto", "systemd", "embedded", "none"] = "auto"
    supervisor: Literal["auto", "s6", "supervisor"] = "auto"


class NodeSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The node's `node.toml`.

    Args:
        threshold: For patterns of names; others need one key.
        retention: See `Retention`.
        services: See `Services`.
    """

    threshold: tuple[Threshold, ...] = ()
    retention: Retention = Retention()
    services: Services = Services()


def read_node_settings(layout: Layout) -> NodeSettings:
    """Read `/etc/appbundle/node.toml`; defaults if there is none.

    Raises:
        UsageError: It is no such file; says where.
    """
    raw = _read(layout.node_settings)
    try:
        return msgspec.convert(tomllib.loads(raw.decode()), NodeSettings)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, msgspec.ValidationError) as error:
        hint = "see docs/node-settings.md"
        if "unknown field `apps`" in str(error) or "unknown field `settings`" in str(error):
            hint += "; apps and their settings stand in a file of yours, for: appb apply FILE"
        raise UsageError(f"{layout.node_settings}: {error}", hint=hint) from error


def read_allowed_signers(layout: Layout) -> str:
    """Read the text of the keys that this node trusts; empty if there are none."""
    return _read(layout.allowed_signers).decode("utf-8", "surrogateescape")


def write_allowed_signers(layout: Layout, text: str) -> None:
    """Replace the keys that this node trusts, durably and with one rename."""
    layout.settings.parent.mkdir(parents=True, exist_ok=True)
    files.make_directory(layout.settings)
    files.check_owner(layout.settings)
    files.write_durably(layout.allowed_signers, text.encode("utf-8", "surrogateescape"))


def _read(path: Path) -> bytes:
    try:
        return files.read_trusted(path)
    except FileNotFoundError:
        return b""


def accepted_release(layout: Layout, name: AppName) -> int:
    """The highest release number of an app that this node ever accepted; -1 for none."""
    path = layout.releases / name
    try:
        return int(path.read_text())
    except FileNotFoundError:
        return -1
    except ValueError as error:
        raise CorruptError(
            f"{path} does not hold a release number",
            hint=f"write the number of the newest release of {name} into it",
        ) from error


def record_release(layout: Layout, name: AppName, release: int) -> None:
    """Remember an accepted release number; survives the app's removal."""
    files.write_durably(layout.releases / name, f"{release}\n".encode())
