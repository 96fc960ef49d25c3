"""Removal: what only the removed version held is freed, and nothing else."""

from collections.abc import Callable
from pathlib import Path

import pytest

from appbundle.names import AppName, Version
from appbundle.store import manifests, removal
from tests.crash.support import Node

Bundle = Callable[[str, int], Path]


def test_only_unshared_objects_are_freed(node: Node, bundle: Bundle) -> None:
    """After a version came and went, the pool is as before it came."""
    node.install(bundle("hello", 1))
    before = node.objects()
    node.install(bundle("hello", 2), switch_to=False)
    assert set(before) < set(node.objects())
    node.remove("hello@2.0")
    assert node.objects() == before
    assert node.problems() == {}


def test_last_version_takes_its_app_along(node: Node, bundle: Bundle) -> None:
    """An app without versions leaves no directory and no object."""
    node.install(bundle("hello", 1))
    node.remove("hello")
    assert [each.name for each in node.layout.apps.iterdir()] == [".appb"]
    assert node.objects() == []


def test_counting_frees_nothing(node: Node, bundle: Bundle) -> None:
    """A dry run counts what the run frees, and leaves it there."""
    node.install(bundle("hello", 1))
    orphan = node.layout.objects / "00" / ("0" * 62)
    orphan.parent.mkdir(exist_ok=True)
    orphan.write_bytes(b"nobody has this")
    assert removal.free_objects(node.layout, dry_run=True) == (1, 15)
    assert orphan.exists()
    assert removal.free_objects(node.layout) == (1, 15)
    assert not orphan.exists()
    assert node.problems() == {}


def test_what_two_versions_share_is_freed_with_both(node: Node, bundle: Bundle) -> None:
    """Contents shared only among the removed count once; contents that stay do not count."""
    for number in (1, 2, 3):
        node.install(bundle("hello", number))
    keys = [(AppName("hello"), Version(f"{number}.0")) for number in (1, 2, 3)]
    manifests_ = [(*key, manifests.read(node.layout, *key)) for key in keys]
    own = len("hello 1\n")
    assert removal.exclusive_bytes(node.layout, manifests_[:1]) == own
    assert removal.exclusive_bytes(node.layout, manifests_[:2]) == 2 * own
    assert removal.exclusive_bytes(node.layout, manifests_) == sum(
        each.stat().st_size for each in node.objects()
    )


@pytest.mark.parametrize("paper", ["manifest.tar.zst", "signed", "about.json"])
def test_damaged_version_can_be_removed(node: Node, bundle: Bundle, paper: str) -> None:
    """Damage to a version's papers does not keep it; gc finds what it alone held."""
    node.install(bundle("hello", 1))
    node.install(bundle("hello", 2))
    objects = node.objects()
    (node.version("hello", "1.0") / ".bundle" / paper).write_bytes(b"damaged")
    node.remove("hello@1.0")
    node.gc(keep=9)
    assert node.looks().versions == {("hello", "2.0")}
    assert len(node.objects()) == len(objects) - 1
    assert node.problems() == {}
