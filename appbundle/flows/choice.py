"""Which version of each app of a node file is wanted, and where it is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING

from appbundle.errors import AppbError, NotFoundError, UsageError
from appbundle.flows import authenticity, shelf
from appbundle.flows.context import Context
from appbundle.flows.origin import Origin
from appbundle.flows.shelf import Shelf
from appbundle.names import AppName, BundleRef, Version, escape
from appbundle.repository import configured
from appbundle.store import generations, holds, listed
from appbundle.store.node_file import Entry, NodeFile

if TYPE_CHECKING:
    from appbundle.repository.find import Repositories

Chosen = Version | Origin
"""A version on disk, or where a bundle comes from."""


_Offer = tuple[int, Chosen]
"""A release that could be chosen, by its number."""


def choose(context: Context, wanted: NodeFile, loose: Shelf) -> dict[AppName, Chosen]:
    """Choose a version for each app of a node file.

    Args:
        loose: Bundle files that count as releases of every channel.

    Raises:
        NotFoundError: A version, or any version of an app, is nowhere.
        AppbError: A repository cannot be believed or asked.
    """
    with ExitStack() as stack:
        chooser = _Chooser(context, loose, stack)
        return {name: chooser.choose(name, entry, wanted) for name, entry in wanted.apps.items()}


class _Chooser:
    """Chooses for one app after the other; repositories are only opened if one is needed."""

    def __init__(self, context: Context, loose: Shelf, stack: ExitStack) -> None:
        self._context = context
        self._loose = loose
        self._stack = stack
        self._repositories: Repositories | None = None
        self._held = holds.read(context.layout, now=context.now)

    def choose(self, name: AppName, entry: Entry, wanted: NodeFile) -> Chosen:
        if entry.bundle:
            return self._file(name, str(wanted.place(entry.bundle)))
        if entry.version:
            return self._version(name, Version(entry.version))
        current = generations.current_version(self._context.layout, name)
        if current is not None and name in self._held:
            self._context.report.note(f"{name} is held: {self._held[name].reason}")
            return current
        lying = [(each.statement.release, each.origin) for each in self._loose.of(name)]
        offers: list[_Offer] = [
            *self._there(name, current),
            *lying,
            *self._in_repository(name, entry.channel, needed=not lying),
        ]
        if not offers:
            raise self._nowhere(name, entry.channel)
        # The first of equals: nothing changes without need, and nothing goes back.
        return max(offers, key=lambda each: each[0])[1]

    def _file(self, name: AppName, path: str) -> Origin:
        trusted = authenticity.policies(self._context.layout)
        found = shelf.look(self._context, path, trusted)
        if found.statement.name != name:
            raise UsageError(f"{escape(path)} is a bundle of {found.statement.name}, not of {name}")
        return found.origin

    def _version(self, name: AppName, version: Version) -> Chosen:
        if listed.read(self._context.layout, name, version) is not None:
            return version
        for each in self._loose.of(name):
            if each.statement.version == version:
                return each.origin
        if configured.names(self._context.layout):
            from appbundle.flows import fetch

            return fetch.find(self._context, self._asked(), BundleRef(name, version))
        raise self._nowhere(name, version)

    def _there(self, name: AppName, current: Version | None) -> Iterator[_Offer]:
        """What runs; if nothing does, all that is on disk."""
        layout = self._context.layout
        names = [current] if current is not None else listed.version_names(layout, name)
        for version in names:
            if (found := listed.read(layout, name, version)) is not None:
                yield found.release, version

    def _in_repository(self, name: AppName, channel: str, *, needed: bool) -> Iterator[_Offer]:
        """The newest of a channel; a channel that is named must exist, if it is `needed`."""
        if not configured.names(self._context.layout):
            return
        from appbundle.flows import fetch
        from appbundle.repository.release import STABLE, newest

        try:
            described = self._asked().find(name)
        except NotFoundError:
            return
        release = newest(described.releases, (channel or STABLE,))
        if release is None and channel and needed:
            release = fetch.choose(described, channel)
        if release is not None:
            yield release.release, fetch.origin(self._context, described, release)

    def _asked(self) -> Repositories:
        if self._repositories is None:
            from appbundle.flows import fetch

            self._repositories = self._stack.enter_context(fetch.known(self._context))
        return self._repositories

    def _nowhere(self, name: AppName, which: str) -> AppbError:
        why = self._loose.why_none(name)
        if why is not None:
            return why
        wanted = f"{name}@{which}" if which else name
        places = ["on this node", "among --bundles"] if self._loose.bundles else ["on this node"]
        if configured.names(self._context.layout):
            places.append("in its repositories")
        return NotFoundError(
            f"{wanted} is not {', nor '.join(places)}",
            hint="--bundles DIR takes it from there; appb repo add takes it from a repository",
        )
