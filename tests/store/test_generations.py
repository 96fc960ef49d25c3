"""Generations: records that do not change, numbers that do not return, links that can be moved."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from appbundle.errors import AppbError, CorruptError, NotFoundError
from appbundle.names import AppName, Version
from appbundle.store import generations
from tests.bundles import picture
from tests.crash.support import NOW, Node

Bundle = Callable[[str, int], Path]

HELLO = AppName("hello")


def test_planning_writes_nothing(node: Node, bundle: Bundle) -> None:
    """What comes next can be said without touching the node."""
    node.install(bundle("hello", 1))
    before = picture(node.root)
    planned = generations.plan(
        node.layout, apps={HELLO: Version("9.0")}, reason="", by="", created_at=NOW
    )
    assert (planned.number, planned.parent) == (2, 1)
    assert picture(node.root) == before


def test_a_node_can_be_moved(node: Node, bundle: Bundle, memory: Path) -> None:
    """All links are relative: a node prepared elsewhere works where it is put."""
    for number in (1, 2):
        node.install(bundle("hello", number))
    moved = Node(node.root.rename(memory / "elsewhere"))
    assert moved.problems() == {}
    assert (moved.layout.app(HELLO) / "current/share/version").read_text() == "hello 2\n"
    moved.previous()
    assert (moved.layout.app(HELLO) / "current/share/version").read_text() == "hello 1\n"


def test_current_is_never_rewritten(node: Node, bundle: Bundle) -> None:
    """An app's own link stays the very same inode through every switch."""
    node.install(bundle("hello", 1))
    link = node.layout.app(HELLO) / "current"
    before = link.lstat()
    node.install(bundle("hello", 2))
    node.previous()
    after = link.lstat()
    assert (after.st_ino, after.st_ctime_ns) == (before.st_ino, before.st_ctime_ns)


def test_history_does_not_change(node: Node, bundle: Bundle) -> None:
    """Whatever comes later, what was recorded of a generation stays."""
    node.install(bundle("hello", 1))
    first = generations.read(node.layout, 1)
    node.install(bundle("hello", 2))
    node.switch("hello@1.0")
    node.install(bundle("other", 1))
    assert generations.read(node.layout, 1) == first


@pytest.mark.parametrize(
    ("record", "error"),
    [
        (None, NotFoundError),
        ("", CorruptError),
        ("{", CorruptError),
        ("[]", CorruptError),
        ('{"number": 1}', CorruptError),
        ('{"strange": 1}', CorruptError),
        ("\udcff", CorruptError),
    ],
)
def test_damaged_record_is_said(
    node: Node, bundle: Bundle, record: str | None, error: type[AppbError]
) -> None:
    """A generation whose record is gone or damaged is an error that names it, and no crash."""
    node.install(bundle("hello", 1))
    path = node.layout.generations / "1" / generations.RECORD
    path.unlink()
    if record is not None:
        path.write_bytes(record.encode(errors="surrogateescape"))
    with pytest.raises(error) as caught:
        generations.read(node.layout, 1)
    assert "generation" in caught.value.what


@pytest.mark.parametrize("target", ["", "not-a-number", "../1/x"])
def test_damaged_current_link_is_said(node: Node, bundle: Bundle, target: str) -> None:
    """A `current` that is no link to a number is corruption, and not a node without history."""
    node.install(bundle("hello", 1))
    link = node.layout.current_generation
    link.unlink()
    if target:
        link.symlink_to(target)
    else:
        link.mkdir()
    with pytest.raises(CorruptError):
        generations.current(node.layout)


def test_records_are_for_people_too(node: Node, bundle: Bundle) -> None:
    """A record says who asked for what, and when, in plain JSON."""
    node.install(bundle("hello", 1), bundle("other", 1))
    record = json.loads((node.layout.generations / "1" / generations.RECORD).read_text())
    assert record["by"] == "tester"
    assert record["reason"] == "install hello@1.0 other@1.0"
    assert record["created_at"] == NOW
    assert record["apps"] == {"hello": "1.0", "other": "1.0"}
