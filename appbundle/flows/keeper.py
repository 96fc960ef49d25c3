"""Who keeps a node's services running, as its settings say; and that as a process."""

from __future__ import annotations

from collections.abc import Sequence

from appbundle.errors import UnsupportedError
from appbundle.flows import configuration
from appbundle.layout import Layout
from appbundle.services import choose
from appbundle.services.model import Backend, Wanted
from appbundle.services.systemd import Systemd
from appbundle.store import generations, settings


def find(layout: Layout) -> Backend | None:
    """Find the keeper of a node's services; None for an image that is only prepared."""
    return choose.choose(layout, settings.read_node_settings(layout).services.manager)


def find_image(layout: Layout) -> Systemd | None:
    """The systemd of an image that is only prepared; None if it has none, or shall not use it."""
    return choose.image(layout, settings.read_node_settings(layout).services.manager)


def supervise(layout: Layout) -> None:
    """Be the embedded supervisor of a node until a signal ends it.

    Raises:
        UnsupportedError: Something else keeps its services running.
        LockedError: Another process is it already.
    """
    wanted = settings.read_node_settings(layout).services
    if wanted.manager in ("systemd", "none"):
        raise UnsupportedError(
            f'{layout.node_settings} says manager = "{wanted.manager}"',
            hint="see docs/node-settings.md",
        )
    if wanted.manager == "auto" and choose.runs_systemd(layout):
        raise UnsupportedError(
            "systemd keeps the services of this node running",
            hint='if it should not: manager = "embedded" in node.toml',
        )
    # Not at the top: whoever only asks who the keeper is needs none of it.
    from appbundle.services.embedded import foreground

    kind = "" if wanted.supervisor == "auto" else wanted.supervisor
    foreground.supervise(layout, lambda: _current(layout), kind=kind)


def _current(layout: Layout) -> Sequence[Wanted]:
    current = generations.current(layout)
    return configuration.wanted(layout, current) if current else ()
