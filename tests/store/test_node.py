"""A node's directories: only ours, cleared of what a death left; what is not appb's is let be."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from appbundle.errors import NotFoundError, UnsupportedError
from appbundle.names import AppName
from tests.bundles import picture
from tests.crash.support import Node, new_node

Bundle = Callable[[str, int], Path]

DIRECTORIES = [
    "apps",
    "apps/hello",
    "apps/.appb",
    *(f"apps/.appb/{n}" for n in ("objects", "stage", "trash", "generations", "pins", "releases")),
    "etc/appbundle",
]


@pytest.fixture
def running(node: Node, bundle: Bundle) -> Node:
    """A node that runs hello 1.0."""
    node.install(bundle("hello", 1))
    return node


@pytest.mark.parametrize("mode", [0o775, 0o757, 0o1777])
@pytest.mark.parametrize("place", DIRECTORIES)
def test_directory_that_others_may_write_to_is_refused(
    running: Node, bundle: Bundle, place: str, mode: int
) -> None:
    """Where others could put something nothing is installed, and the refusal says where."""
    (running.root / place).chmod(mode)
    before = picture(running.root)
    with pytest.raises(UnsupportedError) as caught:
        running.install(bundle("hello", 2))
    assert str(running.root / place) in caught.value.what
    assert "writable by others" in caught.value.what
    assert picture(running.root) == before


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: chown")
@pytest.mark.parametrize("place", [".", *DIRECTORIES])
def test_directory_of_another_user_is_refused(running: Node, bundle: Bundle, place: str) -> None:
    """An owner may write whatever the mode says, so it must be root or whoever runs appb."""
    os.chown(running.root / place, 65534, -1)
    with pytest.raises(UnsupportedError, match="belongs to another user"):
        running.install(bundle("hello", 2))
    assert running.looks().versions == {("hello", "1.0")}


@pytest.mark.parametrize("place", ["apps", "apps/.appb", "apps/.appb/objects"])
def test_directory_behind_a_link_is_refused(running: Node, bundle: Bundle, place: str) -> None:
    """A link could be pointed elsewhere in between; nothing is written through it."""
    path = running.root / place
    real = path.rename(running.root / "elsewhere")
    path.symlink_to(real)
    before = picture(real)
    with pytest.raises(UnsupportedError, match="symbolic link"):
        running.install(bundle("hello", 2))
    assert picture(real) == before


def test_root_may_be_sticky(memory: Path, bundle: Bundle) -> None:
    """A scratch directory like /tmp serves as a root: others can replace nothing in it."""
    node = new_node(memory / "node")
    node.root.chmod(0o1777)
    node.install(bundle("hello", 1))
    assert node.problems() == {}


def test_missing_root_is_not_made(memory: Path, bundle: Bundle) -> None:
    """A mistyped root is an error and no new node."""
    node = new_node(memory / "node")
    with pytest.raises(NotFoundError):
        Node(memory / "nowhere").remove("hello")
    assert not (memory / "nowhere").exists()
    assert node.looks().versions == frozenset()


def test_leftovers_of_a_death_are_cleared(running: Node, bundle: Bundle) -> None:
    """Stages, trash and half-made records are gone after the next change, whatever their modes."""
    private = running.layout.private
    for place in ("stage/0-dead", "trash/dead"):
        closed = private / place / "tree/closed"
        closed.mkdir(parents=True)
        (closed / "file").touch()
        closed.chmod(0o000)
    for place in ("generations/.current.abc", "pins/.x.abc", "releases/.hello.abc", ".lock.abc"):
        (private / place).touch()
    running.install(bundle("hello", 2))
    assert running.leftovers() == []
    assert running.problems() == {}


def test_what_is_not_appbs_is_no_app(running: Node) -> None:
    """What a file system or an administrator keeps below /apps is neither listed nor removed."""
    apps = running.layout.apps
    for name in ("lost+found", ".snapshot", "UPPER", "empty"):
        (apps / name).mkdir()
    (apps / "lost+found").chmod(0o700)
    (apps / "note").touch()
    (apps / "hello/old backup").mkdir()
    assert running.looks().versions == {("hello", "1.0")}
    assert running.problems() == {}
    running.gc()
    assert {"lost+found", ".snapshot", "UPPER", "empty", "note"} <= {p.name for p in apps.iterdir()}


def test_directory_without_description_is_no_version(running: Node) -> None:
    """A copy that lies beside the versions cannot become current; verify names it."""
    (running.layout.app(AppName("hello")) / "backup").mkdir()
    with pytest.raises(NotFoundError):
        running.switch("hello@backup")
    assert running.looks().versions == {("hello", "1.0")}
    assert running.problems()["hello/backup/.bundle/about.json"] == "missing"
