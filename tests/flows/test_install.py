"""Installing: from files, directories and pipes; all at once or not at all; again and again."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from appbundle.errors import (
    AppbError,
    ConflictError,
    CorruptError,
    DowngradeError,
    NotFoundError,
    UnknownKeyError,
    UsageError,
)
from appbundle.flows import install as installing
from appbundle.names import AppName
from appbundle.store import settings
from appbundle.trust import keys
from tests.bundles import picture, read_tree
from tests.crash.support import NOW, Node, argv, hello, make_bundle, new_node

Bundle = Callable[[str, int], Path]

STRANGER = keys.load_private_key(keys.generate(comment="stranger").private)


def test_several_files_are_one_generation(node: Node, bundle: Bundle) -> None:
    """All bundles of one command become current with one switch."""
    node.install(bundle("hello", 1), bundle("other", 1), bundle("third", 1))
    looks = node.looks()
    assert looks.generations == (1,)
    assert looks.apps == {"hello": "1.0", "other": "1.0", "third": "1.0"}


def test_apps_that_are_not_named_stay(node: Node, bundle: Bundle) -> None:
    """A new generation has everything of the one before, but for what was installed."""
    node.install(bundle("hello", 1), bundle("other", 1))
    node.install(bundle("hello", 2))
    assert node.looks().apps == {"hello": "2.0", "other": "1.0"}


def _damaged(memory: Path, bundle: Bundle) -> Path:
    content = bytearray(bundle("other", 1).read_bytes())
    content[-100] ^= 1
    path = memory / "damaged.bundle"
    path.write_bytes(content)
    return path


BAD_COMPANY: dict[str, tuple[Callable[[Path, Bundle], Path], type[AppbError]]] = {
    "missing": (lambda memory, bundle: memory / "nowhere.bundle", NotFoundError),
    "damaged": (_damaged, CorruptError),
    "stranger": (
        lambda memory, bundle: make_bundle(memory, "other", "1.0", key=STRANGER),
        UnknownKeyError,
    ),
    "same app": (lambda memory, bundle: bundle("hello", 3), UsageError),
}


@pytest.mark.parametrize(
    ("company", "dry_run"),
    # A dry run reads no payload, which is all that is wrong with the damaged one.
    [
        (name, dry)
        for name in BAD_COMPANY
        for dry in (False, True)
        if (name, dry) != ("damaged", True)
    ],
)
def test_one_bad_file_keeps_all_out(
    node: Node, memory: Path, bundle: Bundle, company: str, dry_run: bool
) -> None:
    """If one of several files is refused, nothing of the others is left, not even in the pool."""
    node.install(bundle("hello", 1))
    before = picture(node.root)
    make, error = BAD_COMPANY[company]
    paths = [str(bundle("hello", 2)), str(make(memory, bundle))]
    act = installing.plan if dry_run else installing.install
    with pytest.raises(error):
        act(node.context(), paths)
    assert picture(node.root) == before


def test_pipe_installs_like_the_file(node: Node, bundle: Bundle, memory: Path) -> None:
    """`cat BUNDLE | appb install -` reads once, in one pass, and gives the same tree."""
    node.install(bundle("hello", 1))
    other = new_node(memory / "other")
    done = subprocess.run(
        ["sh", "-c", 'cat "$0" | "$@"', str(bundle("hello", 1)), *argv(other, "install", "-")],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert other.looks() == node.looks()
    assert other.problems() == {}
    assert read_tree(other.version("hello", "1.0")) == read_tree(node.version("hello", "1.0"))


def test_pipe_that_ends_early_leaves_nothing(node: Node, bundle: Bundle) -> None:
    """A download that breaks off is refused, and the node is as before."""
    content = bundle("hello", 1).read_bytes()
    done = subprocess.run(argv(node, "install", "-"), input=content[:-40], capture_output=True)
    assert done.returncode == 21
    assert node.looks().versions == frozenset()
    assert (node.objects(), node.leftovers()) == ([], [])


def test_directory_installs_like_the_file(node: Node, memory: Path, bundle: Bundle) -> None:
    """A bundle directory is the same bundle: same digest, same tree, and a no-op afterwards."""
    tree = hello("hello 1")
    made = make_bundle(memory, "hello", "1.0", tree=tree, as_directory=True)
    node.install(made)
    assert node.problems() == {}
    assert node.install(bundle("hello", 1)).switched.outcome == "unchanged"


def _add(made: Path) -> None:
    (made / "share/extra").write_text("x")


def _change(made: Path) -> None:
    (made / "share/common").write_text("y" * 1000)


def _drop(made: Path) -> None:
    (made / "share/version").unlink()


def _relink(made: Path) -> None:
    (made / "share/link").unlink()
    (made / "share/link").symlink_to("version")


def _pipe(made: Path) -> None:
    (made / "share/version").unlink()
    os.mkfifo(made / "share/version")


@pytest.mark.parametrize("change", [_add, _change, _drop, _relink, _pipe])
def test_changed_directory_is_refused(
    node: Node, memory: Path, change: Callable[[Path], None]
) -> None:
    """A bundle directory that is not just what was signed is corrupt, whatever its papers say."""
    made = make_bundle(memory, "hello", "1.0", as_directory=True)
    change(made)
    with pytest.raises(CorruptError):
        node.install(made)
    assert node.looks().versions == frozenset()
    assert (node.objects(), node.leftovers()) == ([], [])


def test_again_changes_nothing(node: Node, bundle: Bundle) -> None:
    """Installing what is installed and current touches no file."""
    node.install(bundle("hello", 1), bundle("other", 1))
    before = picture(node.root)
    done = node.install(bundle("other", 1), bundle("hello", 1), now=NOW + 1)
    assert (done.switched.outcome, done.cost.new_files) == ("unchanged", 0)
    assert picture(node.root) == before


@pytest.mark.parametrize("switch_to", [True, False])
def test_again_after_going_back_is_no_downgrade(
    node: Node, bundle: Bundle, switch_to: bool
) -> None:
    """What is current, or only shall be on disk and is, may be installed once more at any time."""
    for number in (1, 2):
        node.install(bundle("hello", number))
    if switch_to:
        node.previous()
    before = picture(node.root)
    done = node.install(bundle("hello", 1), switch_to=switch_to)
    assert done.switched.outcome == "unchanged"
    assert picture(node.root) == before


def test_older_release_on_disk_is_switched_to_and_not_installed(node: Node, bundle: Bundle) -> None:
    """An old bundle must not become current by `install`, though its version is still there."""
    for number in (1, 2):
        node.install(bundle("hello", number))
    with pytest.raises(DowngradeError) as caught:
        node.install(bundle("hello", 1))
    assert "appb switch" in caught.value.hint
    node.install(bundle("hello", 1), allow_downgrade=True)
    assert node.looks().apps == {"hello": "1.0"}


def test_other_content_needs_another_version(node: Node, memory: Path, bundle: Bundle) -> None:
    """A version stays what it was, even if a newer release of it is signed and trusted."""
    node.install(bundle("hello", 1))
    before = picture(node.root)
    other = make_bundle(memory, "hello", "1.0", release=9, tree={"other": b"content"})
    with pytest.raises(ConflictError, match=r"hello 1\.0"):
        node.install(other)
    assert picture(node.root) == before
    node.remove("hello")
    node.install(other)
    assert node.problems() == {}


def test_without_switch_current_stays(node: Node, bundle: Bundle) -> None:
    """--no-switch adds a version and no generation; a later install switches to it."""
    node.install(bundle("hello", 1))
    done = node.install(bundle("hello", 2), switch_to=False)
    assert (done.switched.outcome, node.looks().generations) == ("installed", (1,))
    assert node.looks().apps == {"hello": "1.0"}
    done = node.install(bundle("hello", 2))
    assert (done.switched.outcome, done.cost.new_files) == ("switched", 0)
    assert node.looks().apps == {"hello": "2.0"}


def test_release_floor_only_grows(node: Node, bundle: Bundle) -> None:
    """The floor is the highest release that was ever accepted, with or without a switch."""
    node.install(bundle("hello", 3), switch_to=False)
    node.install(bundle("hello", 2), allow_downgrade=True)
    assert settings.accepted_release(node.layout, AppName("hello")) == 3


@pytest.mark.parametrize("shared", [b"in both" * 999, b""])
def test_dry_run_counts_what_bundles_share_once(node: Node, memory: Path, shared: bytes) -> None:
    """A content that two of the bundles bring is written for one of them only."""
    paths = [
        make_bundle(memory, name, "1.0", tree={"own": name.encode(), "shared": shared})
        for name in ("web", "worker")
    ]
    planned = installing.plan(node.context(), [str(path) for path in paths])
    done = node.install(*paths)
    expected = len(b"web" + b"worker" + shared), 3 if shared else 2
    assert (planned.cost.new_bytes, planned.cost.new_files) == expected
    assert (done.cost.new_bytes, done.cost.new_files) == expected
