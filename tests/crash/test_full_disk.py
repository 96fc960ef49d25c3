"""The disk is full, in bytes or inodes: refused with nothing changed, and the way back works."""

import contextlib
import os
import random
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from appbundle.names import AppName
from appbundle.store import generations, settings, stage, unpack
from appbundle.store import node as nodes
from appbundle.store.flush import Flusher
from appbundle.system import libc

from .disks import make_ext4, mounted, needs_disks
from .support import Content, Looks, Node, make_bundle, memory_directory, new_node, run_cli

pytestmark = [pytest.mark.root, needs_disks]

FULL = 22
_BLOCK = 4096


@dataclass(frozen=True)
class Disk:
    """A small disk with a node on it; what others keep there is in `others`."""

    place: Path

    @property
    def node(self) -> Node:
        """The node."""
        return Node(self.place / "node")

    @property
    def others(self) -> Path:
        """A directory that has nothing to do with appb."""
        return self.place / "others"

    def fill(self, *, bytes_left: int | None = None, inodes_left: int | None = None) -> None:
        """Let others take all but so much."""
        if inodes_left is not None:
            for number in range(os.statvfs(self.place).f_favail - inodes_left):
                (self.others / f"{number}").touch()
        if bytes_left is not None:
            self._fill_bytes(bytes_left)

    def _fill_bytes(self, left: int) -> None:
        # A list of extents may need a block too, where there is none: the next log is tried then.
        for log in sorted(self.others.glob("log*")):
            with log.open("ab") as file:
                libc.syncfs(file.fileno())
                size = os.fstat(file.fileno()).st_size
                for part in (1, 2, 16, 0):
                    free = os.statvfs(self.place).f_bavail * _BLOCK - left
                    more = max(_BLOCK, free // part) if part else _BLOCK
                    if free < _BLOCK:
                        return
                    with contextlib.suppress(OSError):
                        os.posix_fallocate(file.fileno(), size, more)
                        size += more
        raise AssertionError("the disk does not get full")

    def free(self) -> None:
        """Let others give all of it back."""
        for each in self.others.iterdir():
            os.truncate(each, 0)
            if "log" not in each.name:
                each.unlink()


def _tree(version: int) -> dict[str, Content]:
    """Many directories with a small file each, and half a megabyte."""
    source = random.Random(version)
    files: dict[str, Content] = {f"many/{n}/file": source.randbytes(50) for n in range(60)}
    return files | {
        "large": source.randbytes(500_000),
        "same": b"in all versions",
        "bin": "-> many",
    }


@dataclass(frozen=True)
class Template:
    """The image of a disk whose node has run one 1 and runs one 2; and bundles."""

    image: Path
    bundles: dict[str, Path]


@pytest.fixture(scope="module")
def template() -> Iterator[Template]:
    """Make the image once."""
    with memory_directory() as memory:
        bundles = {}
        for version in (1, 2, 3):
            file = make_bundle(memory, "one", str(version), release=version, tree=_tree(version))
            bundles[f"one-{version}"] = file
        for name in ("two", "new"):
            bundles[f"{name}-1"] = make_bundle(memory, name, "1", tree={name: b"text"})
        image = make_ext4(memory / "template.img", "-b", "4096", "-N", "1024", size_bytes=24 << 20)
        with mounted(image) as place:
            disk = Disk(place)
            disk.others.mkdir()
            for number in range(4):
                (disk.others / f"log{number}").touch()
            new_node(disk.node.root)
            for name in ("one-1", "two-1", "one-2"):
                disk.node.install(bundles[name])
        yield Template(image, bundles)


@contextmanager
def _disk(template: Template) -> Iterator[Disk]:
    """Give a disk as it was in the template."""
    image = template.image.with_name("disk.img")
    shutil.copy(template.image, image)
    try:
        with mounted(image) as place:
            yield Disk(place)
    finally:
        image.unlink()


@pytest.fixture
def disk(template: Template) -> Iterator[Disk]:
    """A disk of one's own."""
    with _disk(template) as disk:
        yield disk


NOTHING_LEFT = {"bytes": {"bytes_left": 0}, "inodes": {"inodes_left": 0}}


def _assert_as_before(node: Node, looks: Looks) -> None:
    assert node.looks() == looks
    assert node.problems() == {}
    assert node.leftovers() == []
    assert node.unshared_objects() == []


def _assert_installs(node: Node, bundle: Path) -> None:
    said = run_cli(node, "install", str(bundle))
    assert said.status == 0, said
    assert node.looks().apps == {"one": "3", "two": "1"}
    assert node.problems() == {}


def _install_until_it_fits(disk: Disk, bundle: Path, levels: list[dict[str, int]]) -> set[str]:
    """Try with more and more room; gives what was said while it did not fit."""
    node, looks, said = disk.node, disk.node.looks(), set()
    for level in levels:
        disk.fill(**level)
        tried = run_cli(node, "install", str(bundle))
        if tried.status == 0:
            break
        assert tried.status == FULL, tried
        said.add(tried.stderr.splitlines()[0])
        _assert_as_before(node, looks)
        disk.free()
    else:
        pytest.fail("it never fitted")
    disk.free()
    _assert_installs(node, bundle)
    return said


@pytest.mark.parametrize("kind", ["bytes", "inodes"])
def test_install_at_any_level(disk: Disk, template: Template, kind: str) -> None:
    """However much room is lacking: refused with 22, nothing changed; with room it goes through.

    With little room the disk is full while directories are made; with more, the check before
    unpacking says how much is needed and how much there is.
    """
    steps = {
        "bytes": [_BLOCK * n for n in (0, 1, 2, 5, 20, 61, 64, 100, 200, 250, 300, 400)],
        "inodes": [0, 1, 2, 3, 5, 30, 61, 63, 65, 100, 124, 125, 126, 127, 130, 200],
    }[kind]
    said = _install_until_it_fits(
        disk, template.bundles["one-3"], [{f"{kind}_left": level} for level in steps]
    )
    assert any("the disk is full" in line for line in said), said
    assert any(f"more {kind}" in line for line in said), said


MOMENTS: dict[str, tuple[Any, str, int]] = {
    "before-the-stage": (nodes, "new_stage", FULL),
    "before-the-papers": (stage, "write_papers", FULL),
    "before-the-pool-s-shards": (stage, "make_shards", FULL),
    "before-the-files": (unpack, "feed", FULL),
    "before-the-flush": (Flusher, "finish", FULL),
    "before-the-generation": (generations, "prepare", FULL),
    "before-the-generation-is-durable": (generations, "sync", FULL),
    "before-the-release-floor": (settings, "record_release", FULL),
    "before-publishing": (stage, "publish", 0),
    "before-the-generation-s-number": (generations, "commit", 0),
    "before-the-switch": (generations, "activate", 0),
}
"""Functions before which the disk fills up, and how `install` ends then: the last ones need no room
on a node that has the app already."""


@pytest.mark.parametrize("kind", NOTHING_LEFT)
@pytest.mark.parametrize("moment", MOMENTS)
def test_disk_fills_up_during_install(
    disk: Disk, template: Template, moment: str, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Others take the last block or inode at any moment: still all or nothing."""
    node, looks, bundle = disk.node, disk.node.looks(), template.bundles["one-3"]
    owner, name, expected = MOMENTS[moment]
    with monkeypatch.context() as patched:
        _before(patched, owner, name, lambda: disk.fill(**NOTHING_LEFT[kind]))
        tried = run_cli(node, "install", str(bundle))
    assert tried.status == expected, tried
    if expected == FULL:
        _assert_as_before(node, looks)
    disk.free()
    _assert_installs(node, bundle)


@pytest.mark.parametrize("kind", NOTHING_LEFT)
def test_disk_fills_up_between_two_apps(
    disk: Disk, template: Template, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of several bundles all are installed or none, also if the first has its place already."""
    node, looks = disk.node, disk.node.looks()
    bundles = [str(template.bundles[name]) for name in ("one-3", "new-1")]
    with monkeypatch.context() as patched:
        _before(patched, stage, "publish", lambda: disk.fill(**NOTHING_LEFT[kind]))
        tried = run_cli(node, "install", *bundles)
    assert tried.status == FULL, tried
    _assert_as_before(node, looks)
    assert not node.layout.app(AppName("new")).exists()
    disk.free()
    assert run_cli(node, "install", *bundles).status == 0
    assert node.looks().apps == {"one": "3", "two": "1", "new": "1"}


def _before(
    patched: pytest.MonkeyPatch, owner: Any, name: str, happens: Callable[[], None]
) -> None:
    """Let something happen before each call of a function."""
    real = getattr(owner, name)

    def wrapped(*arguments: Any, **named: Any) -> Any:
        happens()
        return real(*arguments, **named)

    patched.setattr(owner, name, wrapped)


@pytest.mark.parametrize(
    ("command", "apps"),
    [
        ("switch --previous", {"one": "1", "two": "1"}),
        ("switch --to 1", {"one": "1"}),
        ("remove one@1", {"one": "2", "two": "1"}),
        ("gc --keep 0 --older-than 0", {"one": "2", "two": "1"}),
        ("unpin one@1", {"one": "2", "two": "1"}),
    ],
)
def test_way_back_on_a_full_disk(disk: Disk, command: str, apps: dict[str, str]) -> None:
    """Going back and making room work without a free block or inode, even to name the holder."""
    node = disk.node
    if command.startswith("unpin"):
        assert run_cli(node, "pin", "one@1").status == 0
    os.truncate(node.layout.lock, 0)
    disk.fill(bytes_left=0, inodes_left=0)
    said = run_cli(node, *command.split())
    assert said.status == 0, said
    assert node.looks().apps == apps
    assert node.problems() == {}


def test_back_and_forth_on_a_full_disk(disk: Disk) -> None:
    """The way back can be taken any number of times."""
    node = disk.node
    disk.fill(bytes_left=0, inodes_left=0)
    for number in (2, 1, 2, 3, 1, 3):
        said = run_cli(node, "switch", "--to", str(number))
        assert said.status == 0, said
        assert node.looks().current == number
    assert node.problems() == {}


@pytest.mark.parametrize(
    "command", ["switch one@1", "switch --previous one", "remove one", "pin one@1"]
)
def test_what_needs_room_is_refused(disk: Disk, command: str) -> None:
    """What writes something new says so and changes nothing."""
    node, looks = disk.node, disk.node.looks()
    disk.fill(bytes_left=0, inodes_left=0)
    said = run_cli(node, *command.split())
    assert said.status == FULL, said
    _assert_as_before(node, looks)
    disk.free()
    said = run_cli(node, *command.split())
    assert said.status == 0, said
