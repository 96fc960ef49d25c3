"""A switch with services that dies at any moment: somebody answers, a second run finishes."""

import os
import shutil

import pytest

from tests.services.apps import web
from tests.services.conftest import Fleet

pytestmark = [
    pytest.mark.root,
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace"),
]

EVERY = os.environ.get("APPB_CRASH_EVERY") == "1"
KINDS = {"rename,renameat,renameat2": 1, "unlink,unlinkat": 1, "fsync": 5, "vfork,clone,clone3": 2}
"""Kinds of calls that change a disk or start a program, and which of them are tried."""


def dies(fleet: Fleet, kind: str, number: int) -> bool:
    """Switch, and die at a call; false if it did not come to it."""
    inject = f"inject={kind}:signal=KILL:when={number}"
    strace = ("strace", "-qq", "-o", "/dev/null", "-e", f"trace={kind}", "-e", inject)
    said = fleet.node.run(*strace, *fleet.node.appb_words, "switch", "web@2.0")
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
        if not dies(fleet, kind, number):
            break
        deaths += 1
        assert fleet.get() in ("web 1.0", "web 2.0"), number
        fleet.node.appb("switch", "web@2.0")
        assert fleet.get() == "web 2.0", number
        units = fleet.node.systemctl("list-units", "--all", "--plain", "web*")
        assert ".next." not in units, number
        assert fleet.node.run("ls", "/apps/.appb/pending.json").status != 0, number
        fleet.node.appb("switch", "web@1.0")
        assert fleet.get() == "web 1.0", number
    assert deaths > 0
