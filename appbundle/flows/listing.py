"""`appb list`, `history`: what there is, at a glance; on their fast path."""

from dataclasses import dataclass

from appbundle.layout import Layout
from appbundle.names import AppName, Version
from appbundle.store import generations, listed, pins
from appbundle.store.generations import Generation
from appbundle.store.listed import Listed


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedApp:
    """One app, for `list`.

    Args:
        versions: In the order in which they were installed.
        pinned: Those that are pinned.
    """

    name: AppName
    current: Version | None
    versions: tuple[Listed, ...]
    pinned: frozenset[Version]


def apps(layout: Layout) -> list[ListedApp]:
    """Every app with its versions, oldest first."""
    current = generations.current(layout)
    running = current.apps if current else {}
    pinned: dict[AppName, set[Version]] = {}
    for name, version in pins.pinned(layout):
        pinned.setdefault(name, set()).add(version)
    found = [
        ListedApp(
            name=name,
            current=running.get(name),
            versions=tuple(listed.versions(layout, name)),
            pinned=frozenset(pinned.get(name, ())),
        )
        for name in listed.app_names(layout)
    ]
    return [app for app in found if app.versions]


def history(layout: Layout) -> tuple[int | None, list[Generation]]:
    """The current generation's number, and all generations, oldest first."""
    return generations.current_number(layout), generations.every(layout)
