"""`appb apply` on a booted systemd: services follow the node file, and go back with it."""

from typing import Any

import msgspec
import pytest

from appbundle.bundle.services import Health, Service, Socket
from appbundle.bundle.settings import Setting
from appbundle.store.pending import Pending
from tests.services.apps import web
from tests.services.booted import Said
from tests.services.conftest import Fleet

pytestmark = [pytest.mark.root, pytest.mark.slow]

FIRST, SECOND = 8081, 8082


def apply(fleet: Fleet, text: str, *options: str, check: bool = True) -> Said:
    """Apply a node file, with the bundles at hand."""
    file = fleet.node.scratch / "node.toml"
    file.write_text(text)
    words = ("--json", "apply", "--bundles", str(fleet.node.scratch), *options, str(file))
    return fleet.node.appb(*words, check=check)


def server(name: str, **more: Any) -> Service:
    """A service at the port that its setting says."""
    return web(
        name,
        sockets=(Socket(name="http", listen="127.0.0.1:{{ port }}"),),
        health=Health(http="http://127.0.0.1:{{ port }}/", grace_s=2, attempts=2, timeout_s=1),
        **more,
    )


@pytest.fixture
def bundles(fleet: Fleet) -> Fleet:
    """Bundles of two apps, of which the second one starts after the first and knows its port."""
    for left in fleet.node.scratch.glob("*.bundle"):
        left.unlink()
    first = Setting(name="port", type="port", default=str(FIRST))
    second = Setting(name="port", type="port", default=str(SECOND))
    known = Setting(name="other", type="port", default="1", of="first/port")
    fleet.bundle(server("first"), name="first", settings=(first,))
    fleet.bundle(
        server("second", after=("first",), environment={"OTHER": "{{ other }}"}),
        name="second",
        settings=(second, known),
    )
    return fleet


def variable(fleet: Fleet) -> str:
    """What the second service was told of the first one."""
    pid = fleet.node.show("second.service", "MainPID")
    found = fleet.node.run("cat", f"/proc/{pid}/environ").stdout.split("\0")
    return next(each for each in found if each.startswith("OTHER="))


def started(fleet: Fleet, unit: str) -> int:
    """When a unit became active."""
    return int(fleet.node.show(unit, "ActiveEnterTimestampMonotonic"))


def _interrupt(fleet: Fleet) -> None:
    """Leave the node as if appb had died before it started the second service."""
    fleet.node.systemctl("stop", "second.service", "second.http.socket")
    record = Pending(before=None, after=1, running=("first/first", "second/second"))
    (fleet.node.root / "apps/.appb/pending.json").write_bytes(msgspec.json.encode(record))


def test_services_are_as_the_node_file_says(bundles: Fleet) -> None:
    """They start in order, follow settings of others, and end with their app; twice is nothing."""
    both = "[apps]\nsecond = {}\nfirst = {}\n"
    assert apply(bundles, both).document["outcome"] == "switched"
    assert (bundles.get(FIRST), bundles.get(SECOND)) == ("first 1.0", "second 1.0")
    assert started(bundles, "first.service") <= started(bundles, "second.service")
    assert apply(bundles, both).document["outcome"] == "unchanged"
    _interrupt(bundles)
    assert apply(bundles, both).document["outcome"] == "unchanged"
    assert bundles.get(SECOND) == "second 1.0"
    pids = [bundles.node.show(f"{name}.service", "MainPID") for name in ("first", "second")]
    apply(bundles, "[apps]\nsecond = {}\nfirst = { settings = { port = 8090 } }\n")
    assert (bundles.get(8090), bundles.get(FIRST)) == ("first 1.0", "")
    assert variable(bundles) == "OTHER=8090"
    assert bundles.node.show("second.service", "MainPID") != pids[1]
    apply(bundles, "[apps]\nsecond = {}\n", "--confirm-within", "600s")
    bundles.node.appb("switch", "--confirm")
    assert (bundles.get(8090), bundles.get(SECOND)) == ("", "second 1.0")
    assert variable(bundles) == "OTHER=1"
    bundles.node.appb("switch", "--previous")
    assert bundles.get(8090) == "first 1.0"


def test_unhealthy_release_takes_all_of_it_back(bundles: Fleet) -> None:
    """If one app of several does not become healthy, the node is as before, and code 30 says so."""
    apply(bundles, "[apps]\nfirst = {}\nsecond = {}\n")
    declared = (Setting(name="port", type="port", default=str(SECOND)),)
    bundles.bundle(
        server("second"), name="second", version="2.0", release=2, mode="error", settings=declared
    )
    said = apply(
        bundles, "[apps]\nsecond = {}\nfirst = { settings = { port = 8090 } }\n", check=False
    )
    assert said.status == 30, said
    assert (bundles.get(FIRST), bundles.get(8090)) == ("first 1.0", "")
    assert bundles.get(SECOND) == "second 1.0"
