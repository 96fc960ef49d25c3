"""Durable writes, directories and trees, as a file system really has them."""

import errno
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from appbundle.errors import AppbError, UnsupportedError
from appbundle.system import files

ROOT = os.geteuid() == 0
NOBODY = 65534

needs_root = pytest.mark.skipif(not ROOT, reason="needs root: it gives things away")


@contextmanager
def _umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def _as_nobody(here: Path, act: Callable[[], object]) -> None:
    """Do something without privileges, in a directory; it must not fail."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            os.chdir(here)
            if ROOT:
                os.setgroups([])
                os.setgid(NOBODY)
                os.setuid(NOBODY)
            act()
            status = 0
        except Exception as error:
            os.write(2, f"{error!r}\n".encode())
        finally:
            os._exit(status)
    assert os.waitpid(pid, 0)[1] == 0


def _give_away(path: Path) -> None:
    if ROOT:
        os.chown(path, NOBODY, NOBODY, follow_symlinks=False)


MODES = [0o000, 0o111, 0o200, 0o333, 0o444, 0o500, 0o555, 0o700, 0o777]


@pytest.mark.parametrize("inner", MODES, ids=oct)
@pytest.mark.parametrize("outer", MODES, ids=oct)
def test_owner_removes_a_tree_of_any_modes(tmp_path: Path, outer: int, inner: int) -> None:
    """Row 28: an owner without privileges clears away what even it may not enter or change."""
    home = tmp_path / "home"
    tree = home / "tree"
    (tree / "below/deeper").mkdir(parents=True)
    (tree / "below/deeper/file").write_text("x")
    (tree / "below/deeper/file").chmod(0)
    for here, _, names in os.walk(home):
        _give_away(Path(here))
        for name in names:
            _give_away(Path(here, name))
    (tree / "below/deeper").chmod(outer)
    (tree / "below").chmod(inner)
    tree.chmod(outer)
    _as_nobody(home, lambda: files.remove_tree("tree"))
    assert os.listdir(home) == []


def test_removing_a_tree_follows_no_link(tmp_path: Path) -> None:
    """What links in a tree point to stays, modes included, whoever removes it."""
    outside, tree = tmp_path / "outside", tmp_path / "tree"
    outside.mkdir(mode=0o750)
    (outside / "kept").write_text("kept")
    tree.mkdir()
    (tree / "to-directory").symlink_to(outside)
    (tree / "to-file").symlink_to(outside / "kept")
    (tree / "to-nothing").symlink_to("nowhere")
    _give_away(tree)
    files.remove_tree(tree)
    assert not tree.exists()
    assert (outside / "kept").read_text() == "kept"
    assert stat.S_IMODE(outside.stat().st_mode) == 0o750


@pytest.mark.parametrize("kind", ["file", "link", "fifo", "nothing"])
def test_removing_what_is_no_directory(tmp_path: Path, kind: str) -> None:
    """Anything can be in the way; what is gone already is as good as removed."""
    path, target = tmp_path / "path", tmp_path / "target"
    target.mkdir()
    match kind:
        case "file":
            path.touch()
        case "link":
            path.symlink_to(target)
        case "fifo":
            os.mkfifo(path)
    files.remove_tree(path)
    assert os.listdir(tmp_path) == ["target"]


def _refusal(path: Path, *, may_be_sticky: bool = False) -> str:
    with pytest.raises(UnsupportedError) as caught:
        files.check_owner(path, may_be_sticky=may_be_sticky)
    return caught.value.what


@pytest.mark.parametrize("mode", [0o775, 0o757, 0o777, 0o720, 0o702, 0o1777], ids=oct)
def test_directory_that_others_may_change_is_refused(tmp_path: Path, mode: int) -> None:
    """Row 27: whoever may write to a parent may replace what is in it."""
    tmp_path.chmod(mode)
    assert "writable by others" in _refusal(tmp_path)


@pytest.mark.parametrize("mode", [0o700, 0o755, 0o711, 0o1755], ids=oct)
def test_directory_that_is_ours_alone_is_accepted(tmp_path: Path, mode: int) -> None:
    """Row 27: reading and entering is for everybody who needs it."""
    tmp_path.chmod(mode)
    files.check_owner(tmp_path)


def test_sticky_directory_is_good_for_what_lies_in_it(tmp_path: Path) -> None:
    """Row 27: in /tmp nobody can replace what is ours, so a node may lie there."""
    tmp_path.chmod(0o1777)
    files.check_owner(tmp_path, may_be_sticky=True)
    tmp_path.chmod(0o777)
    assert "writable by others" in _refusal(tmp_path, may_be_sticky=True)


@pytest.mark.root
@needs_root
def test_directory_of_another_user_is_refused(tmp_path: Path) -> None:
    """Row 27: its owner could change it at any time, whatever its mode says now."""
    os.chown(tmp_path, NOBODY, 0)
    assert f"another user (uid {NOBODY})" in _refusal(tmp_path)


def test_link_to_a_directory_is_refused(tmp_path: Path) -> None:
    """Row 27: what is checked is what is used, and a link can be turned."""
    (tmp_path / "link").symlink_to(".")
    assert "symbolic link" in _refusal(tmp_path / "link")


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o077, 0o777], ids=oct)
def test_modes_are_exact_whatever_the_umask(tmp_path: Path, mask: int) -> None:
    """Rows 11 and 13: the umask of whoever calls neither opens nor closes anything."""
    with _umask(mask):
        files.write_durably(tmp_path / "file", b"x")
        files.write_durably(tmp_path / "secret", b"x", mode=0o600)
        assert files.make_directory(tmp_path / "directory")
        assert files.make_directory(tmp_path / "private", mode=files.PRIVATE_MODE)
    modes = {each.name: stat.S_IMODE(each.stat().st_mode) for each in tmp_path.iterdir()}
    assert modes == {"file": 0o644, "secret": 0o600, "directory": 0o755, "private": 0o700}


def test_directory_that_exists_is_left_alone(tmp_path: Path) -> None:
    """Making it again says so, and changes neither its mode nor what has its name."""
    (tmp_path / "directory").mkdir(mode=0o750)
    (tmp_path / "file").touch(mode=0o640)
    assert not files.make_directory(tmp_path / "directory")
    assert not files.make_directory(tmp_path / "file")
    assert stat.S_IMODE((tmp_path / "directory").stat().st_mode) == 0o750
    assert (tmp_path / "file").is_file()


class _PulledPlug(BaseException):
    """Ends a write in the middle, as Ctrl-C does."""


@pytest.mark.parametrize("moment", ["write", "fsync", "rename"])
def test_interrupted_write_keeps_the_old_file(
    tmp_path: Path, moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The old content stays until the new one is whole, and nothing else is left beside it."""
    target = tmp_path / "file"
    files.write_durably(target, b"old")

    def fail(*_: object) -> None:
        raise _PulledPlug

    with monkeypatch.context() as patched:
        patched.setattr(os, moment, fail)
        with pytest.raises(_PulledPlug):
            files.write_durably(target, b"new" * 1000)
    assert {each.name: each.read_bytes() for each in tmp_path.iterdir()} == {"file": b"old"}
    files.write_durably(target, b"new")
    assert target.read_bytes() == b"new"


def test_link_is_replaced_and_not_followed(tmp_path: Path) -> None:
    """Turning a link to a directory turns the link, and leaves the directory alone."""
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    for target in ("one", "two", "one"):
        files.replace_link(tmp_path / "link", target)
        assert os.readlink(tmp_path / "link") == target
    assert sorted(os.listdir(tmp_path)) == ["link", "one", "two"]
    assert os.listdir(tmp_path / "one") == []


def test_new_file_takes_nobody_s_place(tmp_path: Path) -> None:
    """Row 3: neither a file nor a dangling link in the way is written to."""
    (tmp_path / "file").write_text("old")
    (tmp_path / "link").symlink_to("target")
    for name in ("file", "link"):
        with pytest.raises(FileExistsError):
            files.write_new(tmp_path / name, b"new")
    assert (tmp_path / "file").read_text() == "old"
    assert not (tmp_path / "target").exists()


def test_full_disk_has_its_own_exit_code() -> None:
    """A quota is a full disk too; other errors name the path."""

    def said(number: int) -> AppbError:
        return files.translate_os_error(OSError(number, os.strerror(number), "/x"), "testing")

    assert said(errno.ENOSPC).exit_code == said(errno.EDQUOT).exit_code == 22
    assert said(errno.EIO).exit_code == 1
    assert "/x" in said(errno.EIO).what
