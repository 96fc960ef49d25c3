"""A switch or an installation with services that dies at any moment: somebody answers, a second run
finishes."""

import os
import shutil

import pytest

from tests.services.apps import web
from tests.services.conftest import Fleet

pytestmark = [
    pytest.mark.root,
    pytest.mark.minutes,
    pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace"),
]

EVERY = os.environ.get("APPB_CRASH_EVERY") == "1"
KINDS = {"rename,renameat,renameat2": 1, "unlink,unlinkat": 1, "fsync": 5, "vfork,clone,clone3": 2}
"""Kinds of calls that change a disk or start a program, and which of them are tried."""
OF_INSTALL = {"rename,renameat,renameat2": 4, "unlink,unlinkat": 1, "vfork,clone,clone3": 4}
"""The same of installations; what they write to the disk is tried in tests/crash."""


def dies(fleet: Fleet, kind: str, number: int, *words: str) -> bool:
    """Run appb, and die at a call; false if it did not come to it."""
    inject = f"inject={kind}:signal=KILL:when={number}"
    strace = ("strace", "-qq", "-o", "/dev/null", "-e", f"trace={kind}", "-e", inject)
    said = fleet.node.run(*strace, *fleet.node.appb_words, *words)
    assert said.status in (0, 137, -9), said
    return said.status != 0


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("change", ["restart", "overlap"])
def test_switch_that_dies(fleet: Fleet, change: str, kind: str) -> None:
    """Whenever it dies, the old or the new version answers; a repetition finishes, without rest."""
    service = web(change=change)
    fleet.install(service)
    bundle = fleet.bundle(service, version="2.0", release=2)
    fleet.node.appb("install", "--no-switch", str(bundle))
    number = deaths = 0
    while True:
        number += 1 if EVERY else KINDS[kind]
        if not dies(fleet, kind, number, "switch", "web@2.0"):
            break
        deaths += 1
        assert fleet.get() in ("web 1.0", "web 2.0"), number
        fleet.node.appb("switch", "web@2.0")
        assert fleet.get() == "web 2.0", number
        assert_at_rest(fleet, number)
        fleet.node.appb("switch", "web@1.0")
        assert fleet.get() == "web 1.0", number
    assert deaths > 0


def assert_at_rest(fleet: Fleet, number: int) -> None:
    """No switch is under way, and nothing is wrong with what is on disk."""
    units = fleet.node.systemctl("list-units", "--all", "--plain", "web*")
    assert ".next." not in units, number
    assert fleet.node.run("ls", "/apps/.appb/pending.json").status != 0, number


@pytest.mark.parametrize("kind", OF_INSTALL)
@pytest.mark.parametrize("is_first", [True, False], ids=["first", "upgrade"])
def test_installation_that_dies(fleet: Fleet, is_first: bool, kind: str) -> None:
    """Whenever it dies, what answered still does; a repetition finishes, and the node verifies."""
    service = web(change="restart")
    if not is_first:
        fleet.install(service)
    before = fleet.get()
    bundle = str(fleet.bundle(service, version="2.0", release=2))
    number = deaths = 0
    while True:
        number += 1 if EVERY else OF_INSTALL[kind]
        if not dies(fleet, kind, number, "install", bundle):
            break
        deaths += 1
        assert fleet.get() in (before, "web 2.0"), number
        fleet.node.appb("install", bundle)
        assert fleet.get() == "web 2.0", number
        assert_at_rest(fleet, number)
        fleet.node.appb("verify")
        if is_first:
            fleet.node.appb("remove", "--purge", "web")
        else:
            fleet.node.appb("switch", "web@1.0")
            fleet.node.appb("remove", "web@2.0")
        assert fleet.get() == before, number
    assert deaths > 0
