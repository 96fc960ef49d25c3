"""A switch with tasks that dies at any moment, there and back: what runs fits its state again.

The two releases have a service each that the other lacks, so units come and go as well.
"""

import json
import os
import shutil
from dataclasses import dataclass

import pytest

from appbundle.bundle.services import Service
from tests.services.apps import web
from tests.services.conftest import Fleet
from tests.services.test_tasks import RESTORE, SNAPSHOT, WITH_STATE, migrate, showing_state

pytestmark = [
    pytest.mark.root,
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace"),
]

EVERY = os.environ.get("APPB_CRASH_EVERY") == "1"
KINDS = {"rename,renameat,renameat2": 4, "unlink,unlinkat": 5, "vfork,clone,clone3": 11}
"""Kinds of calls that change a disk or start a program, and which of them are tried."""

STATES = {"1.0": ("one", "old"), "2.0": ("two", "new")}
"""What the state is under each release, and the service that it alone has."""


def extra(name: str) -> Service:
    """A service that only one of the releases has."""
    environment = {"PORT": {"old": "8091", "new": "8092"}[name]}
    return web(
        name,
        sockets=(),
        health=None,
        change="restart",
        entitlements=("listen",),
        environment=environment,
    )


def prepare(fleet: Fleet) -> None:
    """Run 1.0, and have 2.0 on disk."""
    fleet.install(
        showing_state(), extra("old"), tasks=(migrate("one"), SNAPSHOT, RESTORE), check=True
    )
    bundle = fleet.bundle(
        *(showing_state(), extra("new")),
        version="2.0",
        release=2,
        tasks=(migrate("two"), SNAPSHOT, RESTORE),
        rollback=(WITH_STATE,),
    )
    fleet.node.appb("install", "--no-switch", str(bundle))


@dataclass(frozen=True)
class Looks:
    """What a node is seen to have.

    Args:
        version: That is current.
        state: What the service has written.
        answer: What it answers.
        active: The extra services that run.
        enabled: Those that are started at boot.
        left: What only a switch under way may have.
    """

    version: str
    state: str
    answer: str
    active: tuple[str, ...]
    enabled: tuple[str, ...]
    left: str


_LOOK = """
cd /apps/web && basename "$(readlink -f current)"
cat /var/lib/web/data
curl -s --max-time 5 http://127.0.0.1:8081/ || echo
for verb in active enabled; do
    for name in old new; do
        systemctl is-$verb --quiet web.$name.service && printf '%s ' $name
    done
    echo
done
ls -d /apps/.appb/pending.json 2>/dev/null
ls /usr/local/lib/systemd/system | grep -E '[.](next|task-)'
systemctl list-units --all --plain 'web*' | grep -E '[.](next|task-)'
ls -A /var/lib/web/.snapshots 2>/dev/null | grep '^[.]'
true
"""


def look(fleet: Fleet) -> Looks:
    """Look at a node."""
    said = fleet.node.run("sh", "-c", _LOOK, check=True).stdout.split("\n")
    active, enabled = (tuple(line.split()) for line in said[3:5])
    return Looks(said[0], said[1], said[2], active, enabled, "\n".join(said[5:]).strip())


def assert_consistent(fleet: Fleet, moment: str) -> str:
    """All is as one of the releases has it, and nothing is under way; gives which."""
    looks = look(fleet)
    state, alone = STATES[looks.version]
    assert looks == Looks(looks.version, state, state, (alone,), (alone,), ""), moment
    return looks.version


def dies(fleet: Fleet, kind: str, number: int, *arguments: str) -> bool:
    """Run appb, and let it die at a call; false if it did not come to it."""
    inject = f"inject={kind}:signal=KILL:when={number}"
    strace = ("strace", "-qq", "-o", "/dev/null", "-e", f"trace={kind}", "-e", inject)
    said = fleet.node.run(*strace, *fleet.node.appb_words, *arguments)
    assert said.status in (0, 137, -9), said
    return said.status != 0


THERE = ("switch", "web@2.0")
BACK = ("switch", "--previous", "--accept-loss")


def mend(
    fleet: Fleet, direction: tuple[str, ...], target: str, *, resume: bool, moment: str
) -> None:
    """After a death, end up at a version, by a resumption or by a repetition."""
    fleet.node.appb("list")
    if resume:
        fleet.node.appb("switch", "--resume")
        if assert_consistent(fleet, moment) == target:
            return
    elif look(fleet).version == target:
        direction = ("switch", f"web@{target}")
    fleet.node.appb(*direction)
    assert assert_consistent(fleet, moment) == target, moment


@pytest.mark.parametrize("kind", KINDS)
def test_switch_with_tasks_that_dies(fleet: Fleet, kind: str) -> None:
    """Whenever it dies, a resumption or a repetition ends at a release with its own state.

    What a snapshot holds is never half of it, and never what the new release has made of it.
    """
    prepare(fleet)
    number = deaths = 0
    dead = True
    while dead:
        number += 1 if EVERY else KINDS[kind]
        dead = False
        for direction, target in ((THERE, "2.0"), (BACK, "1.0")):
            moment = json.dumps([kind, number, direction])
            if dies(fleet, kind, number, *direction):
                dead, deaths = True, deaths + 1
                mend(fleet, direction, target, resume=deaths % 4 < 2, moment=moment)
            assert assert_consistent(fleet, moment) == target
    assert deaths > 0
