"""The layout: every path of a node is a property of its root."""

import inspect
from pathlib import Path

import pytest

from appbundle.layout import Layout
from appbundle.names import AppName, Version


def paths_of(layout: Layout) -> dict[str, Path]:
    """Every path that a layout gives."""
    name, version = AppName("web"), Version("1.0")
    found: dict[str, Path] = {
        key: getattr(layout, key)
        for key, value in inspect.getmembers(Layout, lambda it: isinstance(it, property))
    }
    return found | {
        "app": layout.app(name),
        "version": layout.version(name, version),
        "about": layout.about(name, version),
        "state": layout.state(name),
    }


def test_nothing_of_a_node_is_outside_its_root() -> None:
    """Each path lies below the root, and at the same place below any root."""
    here, there = paths_of(Layout(Path("/"))), paths_of(Layout(Path("/srv/image")))
    assert len(here) > 10
    for name, path in here.items():
        assert there[name] == Path("/srv/image") / path.relative_to("/")


@pytest.mark.parametrize("name", ["stage", "trash", "objects", "generations", "lock", "version"])
def test_what_is_renamed_or_linked_is_on_one_file_system(name: str) -> None:
    """Stage, trash, pool, generations and versions are all below /apps."""
    layout = Layout(Path("/node"))
    assert paths_of(layout)[name].is_relative_to(layout.apps)
