"""An app's state: what its service wrote, outside every version."""

import os

from appbundle.layout import Layout
from appbundle.names import AppName
from appbundle.system import files


def purge(layout: Layout, name: AppName) -> None:
    """Remove an app's state directory; the caller was told to with so many words."""
    files.remove_tree(layout.state(name))


def exists(layout: Layout, name: AppName) -> bool:
    """Whether an app has left any."""
    return os.path.lexists(layout.state(name))
