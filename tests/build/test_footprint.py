"""The footprint notices every entry that came, went, or changed its kind."""

from pathlib import Path

import pytest

from appbundle.build import footprint
from appbundle.build.encode import Tables, scan_tree
from appbundle.errors import BuildError
from tests.build.test_encode import WEB, make_tree


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A tree with every kind of entry, and byte code."""
    return make_tree(tmp_path / "tree", {**WEB, "lib/__pycache__/one.cpython-311.pyc": b"x"})


def scan(tree: Path) -> Tables:
    """The tree as the footprint sees it."""
    return scan_tree(tree)


def test_footprint_lists_all_but_byte_code(tree: Path) -> None:
    """One line an entry, sorted by path, with kind, mode and target; no .pyc."""
    lines = [line for line in footprint.render(scan(tree)).splitlines() if line[0] != "#"]
    assert lines == [
        "d bin/",
        "x bin/web",
        "l current -> lib",
        "d lib/",
        "f lib/empty",
        "f lib/one.py",
        "f lib/two.py",
    ]


def test_what_is_unlisted_may_come_and_go(tree: Path, tmp_path: Path) -> None:
    """Entries that match such a pattern are neither written nor compared; others still are."""
    file = tmp_path / "footprint"
    assert footprint.check(file, scan(tree), update=False, unlisted=["lib/**"])
    assert "lib/one.py" not in file.read_text()
    (tree / "lib/three.py").write_bytes(b"")
    assert not footprint.check(file, scan(tree), update=False, unlisted=["lib/**"])
    (tree / "bin/three").write_bytes(b"")
    with pytest.raises(BuildError) as caught:
        footprint.check(file, scan(tree), update=False, unlisted=["lib/**"])
    assert caught.value.issues == ("+ f bin/three",)


def test_first_build_writes_the_footprint(tree: Path, tmp_path: Path) -> None:
    """Without a footprint there is nothing to compare with: it is made, to be committed."""
    file = tmp_path / "footprint"
    assert footprint.check(file, scan(tree), update=False)
    assert not footprint.check(file, scan(tree), update=False)
    assert not footprint.check(file, scan(tree), update=True)


def test_every_difference_is_named(tree: Path, tmp_path: Path) -> None:
    """New, gone, and made executable: all are in one error, and the file stays as it was."""
    file = tmp_path / "footprint"
    footprint.check(file, scan(tree), update=False)
    before = file.read_text()
    (tree / "lib/one.py").chmod(0o755)
    (tree / "lib/two.py").unlink()
    (tree / "lib/three.py").write_bytes(b"")
    with pytest.raises(BuildError) as caught:
        footprint.check(file, scan(tree), update=False)
    assert caught.value.issues == (
        "- f lib/one.py",
        "+ x lib/one.py",
        "+ f lib/three.py",
        "- f lib/two.py",
    )
    assert file.read_text() == before


def test_differences_can_be_accepted(tree: Path, tmp_path: Path) -> None:
    """--update-footprint makes what is found the expectation."""
    file = tmp_path / "footprint"
    footprint.check(file, scan(tree), update=False)
    (tree / "lib/two.py").unlink()
    assert footprint.check(file, scan(tree), update=True)
    assert not footprint.check(file, scan(tree), update=False)


def test_changed_content_is_no_difference(tree: Path, tmp_path: Path) -> None:
    """A footprint says what is there, not what it contains."""
    file = tmp_path / "footprint"
    footprint.check(file, scan(tree), update=False)
    (tree / "lib/two.py").write_bytes(b"two = 2\n")
    assert not footprint.check(file, scan(tree), update=False)
