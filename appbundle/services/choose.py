"""Who keeps the services of a node running."""

import os
from pathlib import Path
from typing import Literal

from appbundle.layout import Layout
from appbundle.services.embedded.places import Places
from appbundle.services.model import Backend
from appbundle.services.systemd import Systemd

Manager = Literal["auto", "systemd", "embedded", "none"]


def choose(layout: Layout, manager: Manager = "auto") -> Backend | None:
    """Find the keeper of a node's services; None for an image that is only prepared.

    Args:
        layout: The node.
        manager: As node.toml has it: `auto` is systemd on a live node that runs it, else the
            embedded supervisor where it runs, or may be started: on a live node.
    """
    if manager == "none":
        return None
    if manager == "systemd" or (manager == "auto" and runs_systemd(layout)):
        return Systemd(layout) if runs_systemd(layout) else None
    is_live = layout.root == Path("/")
    if not is_live and not Places(layout).lock.exists():
        return None
    # Not at the top: most nodes and most commands need none of it.
    from appbundle.services.embedded.backend import Embedded

    embedded = Embedded(layout)
    return embedded if is_live or embedded.is_running else None


def image(layout: Layout, manager: Manager = "auto") -> Systemd | None:
    """The systemd that will keep an image's services when it boots; None if that has none."""
    is_live = layout.root == Path("/")
    places = (layout.root / each / "systemd/systemd" for each in ("usr/lib", "lib"))
    if is_live or manager not in ("auto", "systemd") or not any(map(Path.exists, places)):
        return None
    return Systemd(layout)


def runs_systemd(layout: Layout) -> bool:
    """Whether this is a live node, and systemd its process 1."""
    return layout.root == Path("/") and os.path.isdir("/run/systemd/system")
