"""Switching services on a booted systemd: what runs afterwards, and what never stopped."""

import time

import pytest

from appbundle.bundle.services import Health
from tests.services.apps import web
from tests.services.booted import wait_until
from tests.services.conftest import Fleet, on_every_systemd

pytestmark = [pytest.mark.root, pytest.mark.slow]


def test_first_installation_enables_and_starts(fleet: Fleet) -> None:
    """A service runs as soon as its app is installed, and again after a boot."""
    said = fleet.install()
    assert said.document["outcome"] == "switched"
    assert fleet.get() == "web 1.0"
    assert fleet.node.systemctl("is-enabled", "web.service") == "enabled"


@on_every_systemd
def test_boot_starts_what_is_current(fleet: Fleet) -> None:
    """After a reboot the services run again, in order, from the version that was current."""
    fleet.install()
    fleet.install(version="2.0", release=2)
    fleet.install(web("api", port=8082, after=("web",)), name="api")
    fleet.node.reboot()
    assert fleet.get() == "web 2.0"
    ready = ("curl", "-s", "--retry", "20", "--retry-connrefused", "http://127.0.0.1:8082/")
    assert fleet.node.run(*ready).stdout.strip() == "api 1.0"
    assert "web.service" in fleet.node.show("api.service", "After").split()
    began = int(fleet.node.show("api.service", "InactiveExitTimestampMonotonic"))
    assert int(fleet.node.show("web.service", "ActiveEnterTimestampMonotonic")) <= began


@on_every_systemd
def test_restart_by_hand_keeps_the_port(fleet: Fleet) -> None:
    """`systemctl restart` refuses no connection: the socket stays the same, whoever restarts."""
    fleet.install()
    before = fleet.node.show("web.http.socket", "ActiveEnterTimestampMonotonic")
    fleet.node.systemctl("restart", "web")
    assert fleet.node.show("web.http.socket", "ActiveEnterTimestampMonotonic") == before
    assert fleet.get() == "web 1.0"


@pytest.mark.parametrize("change", ["overlap", "restart"])
@on_every_systemd
def test_upgrade_and_way_back(fleet: Fleet, change: str) -> None:
    """What runs follows what is current, forward and back; no second instance is left."""
    service = web(change=change)
    fleet.install(service)
    fleet.install(service, version="2.0", release=2)
    assert fleet.get() == "web 2.0"
    fleet.node.appb("switch", "--previous")
    assert fleet.get() == "web 1.0"
    assert "next" not in fleet.node.systemctl("list-units", "--all", "web*")
    assert "next" not in fleet.node.run("ls", "/usr/local/lib/systemd/system").stdout
    # One that has lost its unit file is ended in another way than declared.
    journal = ("journalctl", "--output=cat", "--identifier=systemd", "--boot")
    said = fleet.node.run(*journal, "--unit=web.next.service", check=True).stdout.splitlines()
    ends = [line for line in said if line.startswith("Stopping")]
    assert ends or change == "restart"
    assert all("new version" in line for line in ends), said


@pytest.mark.parametrize(
    ("fleet", "mode"),
    [
        *(("", mode) for mode in ("error", "exit", "hang")),
        pytest.param("trixie", "error", marks=pytest.mark.network),
    ],
    indirect=["fleet"],
)
@pytest.mark.parametrize("change", ["overlap", "restart"])
def test_bad_release_goes_back_by_itself(fleet: Fleet, change: str, mode: str) -> None:
    """A release that answers badly, ends or hangs is reverted; the old one serves, code 30."""
    service = web(change=change)
    fleet.install(service)
    said = fleet.install(service, version="2.0", release=2, mode=mode, check=False)
    assert said.status == 30, said
    assert said.document["error"]["kind"] == "unhealthy"
    assert fleet.get() == "web 1.0"
    history = fleet.node.appb("--json", "history").document
    assert history["current"] == 1
    assert history["generations"][1]["outcome"].startswith("failed: ")
    assert fleet.node.systemctl("is-active", "web.service") == "active"


def test_way_back_that_fails_too_loses_nothing(fleet: Fleet) -> None:
    """If the old version does not start either, both stay on disk, and the code is 31."""
    fleet.install(web(change="restart"))
    place = "/etc/systemd/system/web.service.d"
    script = f"mkdir -p {place} && printf '[Service]\\nExecStartPre=/none\\n' > {place}/bad.conf"
    fleet.node.run("sh", "-c", f"{script} && systemctl daemon-reload", check=True)
    said = fleet.install(web(change="restart"), version="2.0", release=2, check=False)
    assert (said.status, said.document["error"]["kind"]) == (31, "revert-failed")
    (app,) = fleet.node.appb("--json", "list").document["apps"]
    assert [each["version"] for each in app["versions"]] == ["1.0", "2.0"]


@pytest.mark.parametrize("place", ["/etc/systemd/system", "/usr/local/lib/systemd/system"])
def test_unit_of_somebody_else_is_not_touched(fleet: Fleet, place: str) -> None:
    """A unit of the same name that is not ours is a conflict; nothing was changed."""
    path = f"{place}/web.service"
    script = f"mkdir -p {place} && printf '[Service]\\nExecStart=/bin/true\\n' > {path}"
    fleet.node.run("sh", "-c", script, check=True)
    said = fleet.install(check=False)
    assert said.status == 1
    assert path in said.document["error"]["what"]
    assert "ExecStart=/bin/true" in fleet.node.run("cat", path).stdout
    assert fleet.node.appb("--json", "list").document == {"apps": []}
    fleet.node.run("rm", path, check=True)


@on_every_systemd
def test_stopped_service_stays_stopped(fleet: Fleet) -> None:
    """Whoever stopped a service is not contradicted by an upgrade."""
    fleet.install()
    fleet.node.systemctl("stop", "web.service")
    assert wait_until(lambda: fleet.node.show("web.http.socket", "ActiveState") == "inactive")
    fleet.install(version="2.0", release=2)
    assert fleet.node.systemctl("is-active", "web.service", check=False) == "inactive"
    fleet.node.systemctl("start", "web")
    assert fleet.get() == "web 2.0"


@on_every_systemd
def test_drop_in_survives(fleet: Fleet) -> None:
    """What an administrator adds to a unit stays through switches."""
    fleet.install()
    fleet.node.run(
        "sh",
        "-c",
        "mkdir -p /etc/systemd/system/web.service.d && "
        "printf '[Service]\\nMemoryMax=77M\\n' > /etc/systemd/system/web.service.d/mine.conf",
        check=True,
    )
    fleet.install(version="2.0", release=2)
    assert fleet.node.show("web.service", "MemoryMax") == str(77 << 20)


def test_removed_service_is_gone(fleet: Fleet) -> None:
    """A release without a service that the one before had stops and disables it."""
    worker = web("worker", sockets=(), health=None, change="restart", entitlements=("listen",))
    fleet.install(web(), worker)
    assert fleet.node.systemctl("is-active", "web.worker.service") == "active"
    fleet.install(web(), version="2.0", release=2)
    assert fleet.node.show("web.worker.service", "LoadState") == "not-found"
    assert fleet.get() == "web 2.0"


def test_services_start_in_order(fleet: Fleet) -> None:
    """A service starts after those that it names, and is stopped before them."""
    first = web("first", port=8091)
    second = web("second", port=8092, after=("web/first",), health=Health(tcp="127.0.0.1:8092"))
    fleet.install(second, first)
    started = [
        int(fleet.node.show(f"web.{name}.service", "ExecMainStartTimestampMonotonic"))
        for name in ("first", "second")
    ]
    assert started == sorted(started)


def test_services_that_do_not_name_each_other_start_together(fleet: Fleet) -> None:
    """Each of two is healthy only if the other one runs already; if both fail, both are named."""
    ports = {"first": 8091, "second": 8092}
    asks = {
        name: Health(http=f"http://127.0.0.1:{ports[other]}/", grace_s=2, attempts=2, timeout_s=1)
        for name, other in (("first", "second"), ("second", "first"))
    }
    services = [web(name, port=ports[name], health=asks[name], change="restart") for name in ports]
    fleet.install(*services)
    said = fleet.install(*services, version="2.0", release=2, mode="error", check=False)
    assert said.status == 30, said
    assert all(f"web/{name} is not healthy" in said.document["error"]["what"] for name in ports)
    assert [fleet.get(port) for port in ports.values()] == ["web 1.0", "web 1.0"]


def test_keep_runs_on(fleet: Fleet) -> None:
    """A service that says keep runs on from its old version until it is restarted."""
    service = web(change="keep")
    fleet.install(service)
    fleet.install(service, version="2.0", release=2)
    assert fleet.get() == "web 1.0"
    fleet.node.systemctl("restart", "web")
    assert fleet.get() == "web 2.0"


def test_notify_is_waited_for(fleet: Fleet) -> None:
    """A service that says when it is ready is not called started before."""
    fleet.install(web(ready="notify"), mode="notify")
    assert fleet.get() == "web 1.0"


def test_service_that_ends_at_once_is_no_good_release(fleet: Fleet) -> None:
    """Without a health check, a service must at least stay up."""
    service = web(health=None, sockets=(), change="restart", entitlements=("listen",))
    fleet.install(service)
    said = fleet.install(service, version="2.0", release=2, mode="exit", check=False)
    assert said.status == 30, said
    assert fleet.node.systemctl("is-active", "web.service") == "active"


def test_unconfirmed_switch_goes_back(fleet: Fleet) -> None:
    """Unless somebody confirms a switch in time, it is taken back without anybody's help."""
    fleet.install()
    bundle = fleet.bundle(version="2.0", release=2)
    fleet.node.appb("install", "--no-switch", str(bundle))
    fleet.node.appb("switch", "web@2.0", "--confirm-within", "3s")
    assert fleet.get() == "web 2.0"
    assert wait_until(lambda: fleet.get() == "web 1.0")
    history = fleet.node.appb("--json", "history").document
    assert history["generations"][1]["outcome"] == "failed: nobody confirmed it in time"


def test_confirmed_switch_stays(fleet: Fleet) -> None:
    """A confirmation is asked for once, and then nothing happens any more."""
    fleet.install()
    bundle = fleet.bundle(version="2.0", release=2)
    fleet.node.appb("install", "--no-switch", str(bundle))
    fleet.node.appb("switch", "web@2.0", "--confirm-within", "2s")
    fleet.node.appb("switch", "--confirm")
    time.sleep(4)
    assert fleet.get() == "web 2.0"
    assert fleet.node.appb("switch", "--confirm", check=False).status == 10


def test_status_start_stop(fleet: Fleet) -> None:
    """What is shown is what is: running, stopped, stale, healthy."""
    fleet.install(web(change="keep"))
    fleet.install(web(change="keep"), version="2.0", release=2)
    (stale,) = fleet.node.appb("--json", "status").document["services"]
    assert (stale["state"], stale["health"]) == ("running", "healthy")
    assert (stale["version"], stale["current"], stale["is_stale"]) == ("1.0", "2.0", True)
    fleet.node.appb("stop", "web")
    (stopped,) = fleet.node.appb("--json", "status", "web").document["services"]
    assert (stopped["state"], stopped["version"], stopped["health"]) == ("stopped", None, "unknown")
    fleet.node.appb("start", "web")
    (started,) = fleet.node.appb("--json", "status", "web/web").document["services"]
    assert (started["state"], started["version"], started["is_stale"]) == ("running", "2.0", False)
    assert "serving web 2.0" in fleet.node.appb("logs", "web").stdout


def test_widening_is_named_before_it_happens(fleet: Fleet) -> None:
    """What a release may do more than the one before is said, in words, also by a dry run."""
    fleet.install(web())
    bundle = fleet.bundle(web(entitlements=("network-out",)), version="2.0", release=2)
    wider = "web 2.0: service web also opens connections on the host's network"
    said = fleet.node.appb("--json", "install", "--dry-run", str(bundle))
    assert said.document["widenings"] == [wider]
    assert wider in fleet.node.appb("install", str(bundle)).stderr
