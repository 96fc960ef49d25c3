"""Which version a running service has: told by what is mounted as its root, by any backend."""

from __future__ import annotations

from dataclasses import dataclass

from appbundle.layout import Layout
from appbundle.names import AppName, Version
from appbundle.services.model import Wanted
from appbundle.system import in_use, overlays

_GENERATIONS = "/.appb/generations/"


@dataclass(frozen=True, slots=True, kw_only=True)
class RootSource:
    """Where a process has its root and its configuration from.

    Args:
        version: Of the app.
        generation: The number of the generation whose rendered files are mounted; None for none.
    """

    version: Version
    generation: int | None


def source_of_root(pid: int, app: AppName) -> RootSource | None:
    """Look at a process's mounts.

    Returns:
        None if it has ended, or its root is no version of this app.
    """
    try:
        mounted = in_use.mounts_of(str(pid))
    except OSError:
        return None
    version: Version | None = None
    generation: int | None = None
    for (_, source), point in mounted:
        parts = source.split("/")
        if point == "/" and len(parts) >= 2 and parts[-2] == app:
            version = Version(parts[-1])
        _, found, rest = source.partition(_GENERATIONS)
        if found and rest.split("/")[0].isdecimal():
            generation = int(rest.split("/")[0])
    return None if version is None else RootSource(version=version, generation=generation)


def renew(layout: Layout, pid: int, wanted: Wanted) -> None:
    """Show a running process what a generation has rendered for it.

    Raises:
        AppbError: It has ended, or the kernel refuses.
    """
    home = layout.generations / str(wanted.generation)
    overlays.show(pid, [(home / inner, target) for inner, target in wanted.overlays])
