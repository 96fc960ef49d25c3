"""Pins: versions that an administrator wants kept. One empty file each, named NAME@VERSION."""

import os

from appbundle.layout import Layout
from appbundle.names import AppName, Version
from appbundle.system import files


def pinned(layout: Layout) -> frozenset[tuple[AppName, Version]]:
    """All pinned versions."""
    try:
        names = os.listdir(layout.pins)
    except FileNotFoundError:
        return frozenset()
    pairs = (name.partition("@") for name in names if not name.startswith("."))
    return frozenset((AppName(name), Version(version)) for name, _, version in pairs)


def pin(layout: Layout, name: AppName, version: Version) -> None:
    """Keep a version from `gc` and `remove` until it is unpinned."""
    files.write_durably(layout.pins / f"{name}@{version}", b"")


def unpin(layout: Layout, name: AppName, version: Version) -> None:
    """Let a version go; no error if it was not pinned."""
    (layout.pins / f"{name}@{version}").unlink(missing_ok=True)
    files.fsync_directory(layout.pins)
