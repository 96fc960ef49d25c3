"""Who keeps the services of a node running."""

import os
from pathlib import Path

from appbundle.layout import Layout
from appbundle.services.model import Backend
from appbundle.services.systemd import Systemd


def choose(layout: Layout) -> Backend | None:
    """Find the keeper of a node's services; None for an image that is only prepared."""
    if layout.root == Path("/") and os.path.isdir("/run/systemd/system"):
        return Systemd(layout)
    return None
