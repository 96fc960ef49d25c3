"""Which versions running processes still use."""

from appbundle.layout import Layout
from appbundle.names import AppName, Version
from appbundle.store import listed
from appbundle.system import in_use


def versions_in_use(layout: Layout) -> frozenset[tuple[AppName, Version]]:
    """The versions from which a process has its root, program, directory or libraries."""
    known = {
        str(layout.version(name, version)): (name, version)
        for name in listed.app_names(layout)
        for version in listed.version_names(layout, name)
    }
    prefix = str(layout.apps.resolve())
    found = set()
    for path in in_use.paths_in_use(prefix):
        parts = path[len(prefix) :].strip("/").split("/")
        if len(parts) >= 2:
            key = known.get(str(layout.apps / parts[0] / parts[1]))
            if key:
                found.add(key)
    return frozenset(found)
