"""Staging: what is shared is one inode, what is empty is not shared, nothing else is written."""

import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from appbundle.errors import ConflictError
from appbundle.flows import install as installing
from tests.crash.support import Node, Tree, hello, make_bundle, new_node

Bundle = Callable[[str, int], Path]


def inode(path: Path) -> int:
    """Which inode a name has."""
    return path.lstat().st_ino


@pytest.fixture
def install(node: Node, memory: Path) -> Callable[[str, Tree], installing.Installed]:
    """Install a version of an app with a literal tree."""
    count = 0

    def act(version: str, tree: Tree) -> installing.Installed:
        nonlocal count
        count += 1
        made = make_bundle(memory, "web", version, release=count, tree=tree)
        return node.install(made)

    return act


Install = Callable[[str, Tree], installing.Installed]


def test_versions_share_what_is_equal(node: Node, bundle: Bundle) -> None:
    """A content that two versions have is one inode, and only the other content is written."""
    node.install(bundle("hello", 1))
    done = node.install(bundle("hello", 2))
    one, two = node.version("hello", "1.0"), node.version("hello", "2.0")
    assert inode(one / "share/common") == inode(two / "share/common")
    assert inode(one / "share/version") != inode(two / "share/version")
    assert (done.cost.new_files, done.cost.new_bytes) == (1, len("hello 2\n"))


def test_apps_share_too(node: Node, bundle: Bundle) -> None:
    """The pool is the node's and not the app's."""
    node.install(bundle("hello", 1), bundle("other", 1))
    one, two = node.version("hello", "1.0"), node.version("other", "1.0")
    assert inode(one / "share/common") == inode(two / "share/common")


def test_twins_in_one_bundle_are_one_inode(node: Node, bundle: Bundle) -> None:
    """A content that stands twice in a bundle is written once."""
    node.install(bundle("hello", 1))
    share = node.version("hello", "1.0") / "share"
    assert inode(share / "common") == inode(share / "twin")


def test_programs_and_files_do_not_share(node: Node, install: Install) -> None:
    """The mode belongs to the inode, so an executable file is an object of its own."""
    install("1.0", {"bin/tool": b"the same\n", "share/tool": b"the same\n"})
    tree = node.version("web", "1.0")
    assert inode(tree / "bin/tool") != inode(tree / "share/tool")
    assert [stat.S_IMODE((tree / p).lstat().st_mode) for p in ("bin/tool", "share/tool")] == [
        0o755,
        0o644,
    ]


def test_empty_files_share_nothing(node: Node, install: Install) -> None:
    """Empty files are no objects: there are so many that one inode's links would run out."""
    install("1.0", {"a": b"", "b": b""})
    install("2.0", {"a": b"", "b": b"", "c": b"x"})
    trees = [node.version("web", version) for version in ("1.0", "2.0")]
    assert all((tree / name).lstat().st_nlink == 1 for tree in trees for name in ("a", "b"))
    assert len(node.objects()) == 1


def test_links_belong_to_their_version(node: Node, install: Install) -> None:
    """Symbolic links are made as they were signed and are not pooled."""
    install("1.0", {"share/a": b"a", "current": "-> share"})
    link = node.version("web", "1.0") / "current"
    assert (os.readlink(link), link.lstat().st_nlink) == ("share", 1)


@pytest.mark.parametrize("umask", [0o077, 0o000])
def test_modes_do_not_depend_on_the_umask(memory: Path, bundle: Bundle, umask: int) -> None:
    """Whoever installs, services can read the version, and nobody else can write to it."""
    node, before = new_node(memory / "node"), os.umask(umask)
    try:
        node.install(bundle("hello", 1))
    finally:
        os.umask(before)
    assert node.problems() == {}
    everything = [node.layout.apps, *node.layout.apps.rglob("*")]
    assert not [p for p in everything if not p.is_symlink() and p.stat().st_mode & 0o022]
    closed = {p.name for p in node.layout.private.iterdir() if not p.stat().st_mode & 0o004}
    assert closed == {"lock", "objects", "stage", "trash"}


def test_name_that_is_taken_is_not_overwritten(node: Node, bundle: Bundle) -> None:
    """A directory that somebody put where a version belongs stays, and is named."""
    squatter = node.version("hello", "1.0")
    (squatter / "keep").mkdir(parents=True)
    with pytest.raises(ConflictError, match=r"hello/1\.0 exists"):
        node.install(bundle("hello", 1))
    assert [each.name for each in squatter.iterdir()] == ["keep"]
    assert node.leftovers() == []


@pytest.fixture
def crowded(tmp_path: Path) -> Iterator[tuple[Node, Path]]:
    """A node whose one pool object can take just one link more."""
    limit = os.pathconf(tmp_path, "PC_LINK_MAX")
    tmp_path.chmod(0o755)
    node = new_node(tmp_path / "node")
    node.install(make_bundle(tmp_path, "web", "1.0", tree={"a": b"common\n"}))
    (popular,) = node.objects()
    crowd = tmp_path / "crowd"
    crowd.mkdir()
    if limit > 70_000:
        pytest.skip("this file system sets no limit to links that could be reached")
    for number in range(limit - popular.stat().st_nlink - 1):
        os.link(popular, crowd / str(number))
    yield node, popular
    for each in crowd.iterdir():
        each.unlink()


def test_object_without_links_left_is_replaced(crowded: tuple[Node, Path], tmp_path: Path) -> None:
    """Where an inode has all links it can have, a new one is written and takes its place."""
    node, popular = crowded
    full = inode(popular)
    tree = dict.fromkeys("abc", b"common\n")
    for number in (2, 3):
        made = make_bundle(tmp_path, "web", f"{number}.0", release=number, tree=tree)
        node.install(made)
    assert node.problems() == {}
    assert inode(popular) != full
    second, third = node.version("web", "2.0"), node.version("web", "3.0")
    assert inode(second / "a") == full
    assert {inode(second / name) for name in "bc"} == {inode(popular)}
    assert {inode(third / name) for name in "abc"} == {inode(popular)}
    assert node.leftovers() == []


def test_bundle_of_another_tree_shape_unpacks_whole(node: Node, install: Install) -> None:
    """Deep, wide and empty directories arrive as they were."""
    tree = {f"d{n}/" * depth + "f": b"%d" % n for n, depth in ((1, 1), (2, 30), (3, 60))}
    install("1.0", {**tree, **hello("1.0")})
    for path, content in tree.items():
        assert (node.version("web", "1.0") / path).read_bytes() == content
    assert node.problems() == {}
