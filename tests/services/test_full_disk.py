"""A disk that is full while services are switched: refused with 22, and what runs runs on."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from appbundle.bundle.settings import Setting, Template
from tests.services.apps import web
from tests.services.booted import Said
from tests.services.conftest import Fleet

pytestmark = [pytest.mark.root, pytest.mark.slow]

FULL = 22
UNITS = "/usr/local/lib/systemd/system"
LEVELS = {"bytes": (0, 1, 3, 5, 8, 14, 24), "inodes": (0, 1, 2, 3, 5, 8, 12, 24)}
"""How many pages or inodes are left, until it fits."""

CONFIGURED: dict[str, Any] = {
    "settings": (Setting(name="word", default="one"),),
    "templates": (Template(source="share/version.j2", target="share/version"),),
    "files": {"share/version.j2": "{{ word }} {{ version }}\n"},
}


@contextmanager
def small(fleet: Fleet, place: str) -> Iterator[None]:
    """Let a directory of the node be a small file system of its own."""
    fleet.node.run("mkdir", "-p", place, check=True)
    fleet.node.run(
        *("mount", "-t", "tmpfs", "-o", "size=16m,nr_inodes=2000,mode=755", "tmpfs", place),
        check=True,
    )
    try:
        yield
        fill(fleet, place)
        fleet.node.reset()
    finally:
        fleet.node.run("umount", "-l", place, check=True)
        fleet.node.systemctl("daemon-reload")


def fill(fleet: Fleet, place: str, *, kind: str = "", left: int = 0) -> None:
    """Let others take all but so many pages or inodes; without a kind, give all of it back."""
    script = f"rm -rf {place}/.others"
    if kind == "bytes":
        script += f"; mkdir {place}/.others; head -c 100M /dev/zero > {place}/.others/0 2>/dev/null"
        script += f"; truncate -s -{left * 4096} {place}/.others/0" if left else ""
    if kind == "inodes":
        script += (
            f"; mkdir {place}/.others; n=$(df --output=iavail {place} | tail -n 1); "
            f"seq -f '{place}/.others/%g' $((n - {left})) | xargs touch"
        )
    fleet.node.run("sh", "-c", f"{script}; true", check=True)


def install(fleet: Fleet) -> None:
    """Run 1.0, and have 2.0 on disk, whose units are other ones."""
    fleet.install(**CONFIGURED)
    other = web(environment={"OTHER": "x" * 5000})
    bundle = fleet.bundle(other, version="2.0", release=2, **CONFIGURED)
    fleet.node.appb("install", "--no-switch", str(bundle))
    assert fleet.get() == "one 1.0"


def listing(fleet: Fleet) -> str:
    """What lies in the places that a switch writes to, but for failed generations: history."""
    script = f"find /apps/.appb/pending.json /apps/.appb/stage {UNITS} | grep -v others | sort"
    return fleet.node.run("sh", "-c", script).stdout


def until_it_fits(fleet: Fleet, place: str, kind: str, *command: str) -> list[Said]:
    """Try a command with more and more room; gives what was said while it did not fit."""
    before, said = listing(fleet), []
    pid = fleet.node.show("web.service", "MainPID")
    for left in LEVELS[kind]:
        fill(fleet, place, kind=kind, left=left)
        tried = fleet.node.appb("--json", *command, check=False)
        if tried.status == 0:
            break
        assert tried.status == FULL, (left, tried)
        assert fleet.get() == "one 1.0", left
        assert fleet.node.show("web.service", "MainPID") == pid, left
        assert set(tried.document["error"]) == {"kind", "what", "kept", "hint"}
        assert tried.document["error"]["hint"], tried
        said.append(tried)
        fill(fleet, place)
        assert listing(fleet) == before, (left, tried)
    fill(fleet, place)
    fleet.node.appb(*command)
    return said


@pytest.mark.parametrize("kind", LEVELS)
def test_no_room_for_configuration(fleet: Fleet, kind: str) -> None:
    """While a setting is rendered into a new generation: nothing of it is left."""
    with small(fleet, "/apps"):
        install(fleet)
        assert len(until_it_fits(fleet, "/apps", kind, "set", "web", "word=two")) > 1
        assert fleet.get() == "two 1.0"


@pytest.mark.parametrize("kind", LEVELS)
def test_no_room_for_units(fleet: Fleet, kind: str) -> None:
    """While units are written, before the rename or after it: those of before run on."""
    with small(fleet, UNITS):
        install(fleet)
        said = until_it_fits(fleet, UNITS, kind, "switch", "web@2.0")
        assert any(UNITS in each.document["error"]["what"] for each in said)
        assert fleet.get() == "one 2.0"


def test_way_back_on_a_full_disk(fleet: Fleet) -> None:
    """Going back with services works without a free page or inode."""
    with small(fleet, "/apps"):
        install(fleet)
        fleet.node.appb("switch", "web@2.0")
        fill(fleet, "/apps", kind="inodes")
        fleet.node.run("sh", "-c", "head -c 100M /dev/zero > /apps/.others/1", check=False)
        fleet.node.appb("switch", "--previous")
        assert fleet.get() == "one 1.0"
