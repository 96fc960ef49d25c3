"""An app's state: what its service wrote, outside every version."""

from appbundle.layout import Layout
from appbundle.names import AppName
from appbundle.system import files


def purge(layout: Layout, name: AppName) -> None:
    """Remove an app's state directory; the caller was told to with so many words."""
    files.remove_tree(layout.state(name))
