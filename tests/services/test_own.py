"""What outlasts a command starts an appb that is there then."""

import sys
from pathlib import Path

import pytest

from appbundle.layout import Layout
from appbundle.services.own import lasting_command


def tree_of(version: str, root: Path) -> Path:
    """A version of appb with its program, on a node."""
    tree = root / "apps/appb" / version
    (tree / "usr/bin").mkdir(parents=True)
    (tree / "usr/bin/appb").touch()
    return tree


def test_appb_of_a_machines_python_is_started_by_it(tmp_path: Path) -> None:
    """Also on a node that has appb as an app: who runs another one means that."""
    tree = tree_of("1.0", tmp_path)
    (tree.parent / "current").symlink_to("1.0")
    assert lasting_command(Layout(tmp_path)) == [sys.executable, "-I", "-m", "appbundle"]


def test_appb_of_a_bundle_is_whichever_is_current(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No version of it is named, as long as one is current; else the tree that it runs from."""
    tree = tree_of("1.0", tmp_path)
    monkeypatch.setattr(sys, "executable", f"{tree}/usr/lib/appb/python")
    assert lasting_command(Layout(tmp_path)) == [f"{tree}/usr/bin/appb"]
    current = tree.parent / "current"
    current.symlink_to("1.0")
    assert lasting_command(Layout(tmp_path)) == [f"{current}/usr/bin/appb"]
    current.unlink()
    current.symlink_to("gone")
    assert lasting_command(Layout(tmp_path)) == [f"{tree}/usr/bin/appb"]
