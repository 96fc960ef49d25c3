"""With --root an ordinary user does everything that needs no service: no owner is changed."""

import json
import os
import pwd
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import appbundle
from tests.crash.support import Node, argv, new_node

Bundle = Callable[[str, int], Path]
Appb = Callable[..., Any]

ROOT = os.getuid() == 0
NEEDED = {Path(sys.base_prefix), Path(sys.prefix), Path(appbundle.__file__).parents[1]}
"""What an ordinary user must be able to read to run appb as we do."""


def as_user(who: int, argv: list[str]) -> list[str]:
    """Turn an argument list into one that runs as that user.

    Where interpreter or sources are in a home that is closed to others, it is opened up, with
    nothing else of it, in a mount namespace of the process's own.
    """
    if not ROOT:
        return argv
    steps = ["set -e", "t=$(mktemp -d)", "mount -t tmpfs none $t"]
    closed = {path: home for path in NEEDED if (home := _closed_above(path))}
    for number, path in enumerate(closed):
        steps.append(f"mkdir $t/{number}; mount --bind {path} $t/{number}")
    steps += [f"mount -t tmpfs -o mode=755 none {home}" for home in set(closed.values())]
    for number, path in enumerate(closed):
        steps.append(f"mkdir -p {path}; mount --bind $t/{number} {path}")
    user = f"setpriv --reuid={who} --regid={who} --clear-groups"
    script = "; ".join([*steps, f'exec {user} "$@"'])
    return ["unshare", "--mount", "sh", "-c", script, "sh", *argv]


def _closed_above(path: Path) -> Path | None:
    """The outermost directory above a path that others may not enter."""
    for parent in reversed(path.parents):
        if not parent.stat().st_mode & 0o001:
            return parent
    return None


@pytest.fixture(scope="session")
def who() -> int:
    """An ordinary user's number: ours, or nobody's if we are root."""
    if ROOT and subprocess.run(["unshare", "--mount", "true"], capture_output=True).returncode:
        pytest.skip("needs a mount namespace of its own to run as an ordinary user")
    return os.getuid() or pwd.getpwnam("nobody").pw_uid


Act = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def act(who: int) -> Act:
    """Run a command on a node as that user."""

    def act(node: Node, *words: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            as_user(who, argv(node, "--json", *words)),
            capture_output=True,
            text=True,
            timeout=60,
            env={"PATH": os.environ["PATH"], "PYTHONDONTWRITEBYTECODE": "1"},
        )

    return act


@pytest.fixture
def appb(node: Node, who: int, act: Act) -> Appb:
    """Run a command on that user's own node; gives the JSON document of a success."""
    everything = [node.root, *node.root.rglob("*")]
    for path in everything if ROOT else ():
        os.chown(path, who, who)

    def succeed(*words: str, status: int = 0) -> Any:
        done = act(node, *words)
        assert done.returncode == status, done.stdout + done.stderr
        return json.loads(done.stdout)

    return succeed


def test_whole_life_without_privileges(node: Node, bundle: Bundle, appb: Appb, who: int) -> None:
    """Every command that changes a node works, and all files are the user's own."""
    appb("install", str(bundle("hello", 1)), str(bundle("other", 1)))
    appb("install", str(bundle("hello", 2)))
    assert appb("switch", "--previous")["apps"] == {"hello": "1.0", "other": "1.0"}
    appb("switch", "hello@2.0")
    appb("pin", "hello@1.0")
    appb("unpin", "hello@1.0")
    assert {each.lstat().st_uid for each in node.layout.apps.rglob("*")} == {who}
    assert appb("verify")["problems"] == []
    (node.version("hello", "2.0") / "bin/hello").chmod(0o600)
    assert not appb("verify", status=21)["ok"]
    appb("repair", str(bundle("hello", 2)))
    assert appb("verify")["ok"]
    appb("remove", "other")
    removed = appb("gc", "--keep", "0", "--older-than", "0")["removed"]
    assert [each["version"] for each in removed] == ["1.0"]
    (app,) = appb("list")["apps"]
    assert (app["name"], app["current"]) == ("hello", "2.0")


def test_closed_directories_do_not_stop_removal(node: Node, bundle: Bundle, appb: Appb) -> None:
    """A version whose directories were closed can still be removed by its owner."""
    appb("install", str(bundle("hello", 1)))
    for path in (node.version("hello", "1.0") / "share", node.version("hello", "1.0")):
        path.chmod(0o000)
    appb("remove", "hello")
    assert appb("list") == {"apps": []}
    assert node.leftovers() == []


def test_foreign_rubbish_is_let_be(node: Node, bundle: Bundle, appb: Appb) -> None:
    """A lost+found that only root may enter keeps nobody from listing, installing or collecting."""
    appb("install", str(bundle("hello", 1)))
    lost = node.layout.apps / "lost+found"
    lost.mkdir(mode=0o700)
    if os.getuid():
        lost.chmod(0o000)
    assert [app["name"] for app in appb("list")["apps"]] == ["hello"]
    appb("install", str(bundle("hello", 2)))
    appb("gc")
    assert appb("verify")["ok"]


@pytest.mark.root
@pytest.mark.skipif(not ROOT, reason="needs root: a node of another user")
def test_node_of_root_is_read_by_everybody_and_changed_by_nobody(
    memory: Path, bundle: Bundle, act: Act
) -> None:
    """On root's node others may look (list, info, history), and every change is refused whole."""
    node = new_node(memory / "roots")
    node.install(bundle("hello", 1))
    node.install(bundle("hello", 2))
    before = node.looks()
    for look in (("list",), ("history",), ("info", "hello"), ("verify", "hello")):
        assert act(node, *look).returncode == 0
    for change in (("switch", "--previous"), ("remove", "hello"), ("gc",), ("pin", "hello")):
        done = act(node, *change)
        assert done.returncode == 1
        assert json.loads(done.stdout)["error"]["what"]
    assert node.looks() == before
