"""What is installed, at a glance: names and a few figures, for commands that must start fast.

Nothing here needs the manifest's types, whose import costs more than the reading.
"""

import json
import os
from dataclasses import dataclass
from typing import Any

from appbundle.errors import CorruptError
from appbundle.layout import Layout
from appbundle.names import AppName, Version, is_app_name, is_version

CONFIGURED = ("settings", "templates", "tasks", "rollback")
"""Keys of a manifest; whoever has one of them has something rendered in each generation."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """One version on disk.

    Args:
        digest: The bundle's identity.
        release: Its release number.
        size_bytes: Of all contents together.
        installed_at: Seconds since the epoch.
        serves: Whether it declares services.
        configured: Whether it declares settings, templates, tasks, or what going back means.
        commands: What people may call: program and first arguments, by name.
    """

    version: Version
    digest: str
    release: int
    size_bytes: int
    installed_at: int
    serves: bool
    configured: bool
    commands: dict[str, list[str]]


def app_names(layout: Layout) -> list[AppName]:
    """The apps that have a directory, sorted; what has no app's name (`lost+found`) is none."""
    try:
        with os.scandir(layout.apps) as entries:
            names = [
                e.name for e in entries if is_app_name(e.name) and e.is_dir(follow_symlinks=False)
            ]
    except FileNotFoundError:
        return []
    return sorted(map(AppName, names))


def version_names(layout: Layout, name: AppName) -> list[Version]:
    """The versions of an app that are on disk, in no order that means anything."""
    try:
        with os.scandir(layout.app(name)) as entries:
            return [
                Version(e.name)
                for e in entries
                if is_version(e.name) and e.is_dir(follow_symlinks=False)
            ]
    except (FileNotFoundError, NotADirectoryError):
        return []


def versions(layout: Layout, name: AppName) -> list[Listed]:
    """Every version of one app, in the order in which they were installed.

    Raises:
        CorruptError: A description is damaged.
    """
    found = [read(layout, name, version) for version in version_names(layout, name)]
    return sorted(filter(None, found), key=lambda each: (each.installed_at, each.release))


def read(layout: Layout, name: AppName, version: Version) -> Listed | None:
    """Read a version's figures, or None if it is not installed.

    Raises:
        CorruptError: The description is damaged.
    """
    path = layout.about(name, version)
    try:
        with open(path, "rb") as file:
            raw = file.read()
        about: dict[str, Any] = json.loads(raw)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except ValueError as error:
        raise damaged(path, name, version, error) from error
    try:
        return Listed(
            version=version,
            digest=about["digest"],
            release=int(about["manifest"]["release"]),
            size_bytes=int(about["size_bytes"]),
            installed_at=int(about["installed_at"]),
            serves=bool(about["manifest"].get("services")),
            # Two braces never stand side by side in JSON, but in a text with a setting's name.
            configured=b"{{" in raw or any(about["manifest"].get(key) for key in CONFIGURED),
            commands=about["manifest"].get("commands", {}),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise damaged(path, name, version, error) from error


def damaged(path: object, name: AppName, version: Version, error: Exception) -> CorruptError:
    """Say that a version's description cannot be read."""
    return CorruptError(
        f"{path} is damaged: {error}",
        hint="appb repair restores it from the bundle file; "
        f"appb remove {name}@{version} works as well",
    )
