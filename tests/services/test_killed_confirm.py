"""A switch that somebody has to confirm, whatever dies: nothing stays by accident."""

import shutil

import pytest

from tests.services.apps import web
from tests.services.booted import wait_until
from tests.services.conftest import Fleet
from tests.services.test_killed_tasks import EVERY, dies

pytestmark = [
    pytest.mark.root,
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace"),
]

KINDS = {"rename,renameat,renameat2": 2, "vfork,clone,clone3": 4}
"""Kinds of calls that change a disk or start a program, and which of them are tried."""


def prepare(fleet: Fleet) -> None:
    """Run 1.0, and have 2.0 on disk."""
    fleet.install(web(change="restart"))
    bundle = fleet.bundle(web(change="restart"), version="2.0", release=2)
    fleet.node.appb("install", "--no-switch", str(bundle))


def is_back(fleet: Fleet) -> bool:
    """Whether 1.0 is current, and nothing is under way any more."""
    script = "test ! -e /apps/.appb/pending.json && readlink -f /apps/web/current"
    return fleet.node.run("sh", "-c", script).stdout == "/apps/web/1.0\n"


def assert_goes_back(fleet: Fleet, moment: object) -> None:
    """Without anybody's help, 1.0 runs again."""
    assert wait_until(lambda: is_back(fleet), 60), moment
    assert fleet.get() == "web 1.0", moment


def forget_timers(fleet: Fleet) -> None:
    """Let nobody but a boot go on."""
    fleet.node.systemctl("stop", "appb-later-*", check=False)


def boot(fleet: Fleet) -> None:
    """Let be gone what a reboot does away with, and start what a boot starts."""
    forget_timers(fleet)
    fleet.node.systemctl("stop", "web*", check=False)
    fleet.node.systemctl("start", "web.service")
    wanted = fleet.node.systemctl("show", "--value", "--property=Wants", "default.target")
    assert "appb-resume.service" in wanted
    fleet.node.systemctl("start", "appb-resume.service")


@pytest.mark.parametrize("kind", KINDS)
def test_switch_to_be_confirmed_that_dies(fleet: Fleet, kind: str) -> None:
    """Whenever it dies, the timer that it has set goes back, and so does the next boot."""
    prepare(fleet)
    number = deaths = 0
    while True:
        number += 1 if EVERY else KINDS[kind]
        if not dies(fleet, kind, number, "switch", "web@2.0", "--confirm-within", "1s"):
            break
        deaths += 1
        if deaths % 2 == 0:
            boot(fleet)
        assert_goes_back(fleet, number)
    assert_goes_back(fleet, number)
    assert deaths > 0


@pytest.mark.parametrize("kind", KINDS)
def test_way_back_of_nobody_s_confirmation_that_dies(fleet: Fleet, kind: str) -> None:
    """Whoever dies while it goes back has not confirmed anything: the next boot goes on."""
    prepare(fleet)
    number = 0
    while True:
        number += 1 if EVERY else KINDS[kind]
        fleet.node.appb("switch", "web@2.0", "--confirm-within", "0s")
        forget_timers(fleet)
        if not dies(fleet, kind, number, "switch", "--resume"):
            break
        boot(fleet)
        assert_goes_back(fleet, number)
    assert_goes_back(fleet, number)
    assert number > KINDS[kind]


SWITCH = ("switch", "web@2.0", "--confirm-within", "1h")


def interrupt(fleet: Fleet) -> None:
    """Let a switch to 2.0 die when that is current already."""
    prepare(fleet)
    number = 0
    while fleet.node.run("readlink", "-f", "/apps/web/current").stdout != "/apps/web/2.0\n":
        number += 1
        assert dies(fleet, "rename,renameat,renameat2", number, *SWITCH)


def test_repeated_switch_is_to_be_confirmed_as_well(fleet: Fleet) -> None:
    """The same command once more, after a death behind the rename, still waits, and says so."""
    interrupt(fleet)
    assert "hint: goes back by itself" in fleet.node.appb(*SWITCH).stderr
    assert fleet.get() == "web 2.0"
    fleet.node.appb("switch", "--confirm")
    assert fleet.node.appb("switch", "--confirm", check=False).status == 10


def test_interrupted_switch_can_be_confirmed(fleet: Fleet) -> None:
    """Who confirms a switch that died gets all of it."""
    interrupt(fleet)
    fleet.node.appb("switch", "--confirm")
    assert fleet.get() == "web 2.0"
    assert fleet.node.run("ls", "/apps/.appb/pending.json").status != 0
