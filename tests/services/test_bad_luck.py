"""What goes wrong around a switch, not in the new version: said, undone, and then done again."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from appbundle.bundle.services import Health
from tests.services.apps import web
from tests.services.booted import wait_until
from tests.services.conftest import Fleet, on_every_systemd

pytestmark = [pytest.mark.root, pytest.mark.slow]

_DROP_IN = "/etc/systemd/system/web.service.d"

TROUBLES = {
    "drop-in": (
        f"mkdir -p {_DROP_IN} && printf '[Service]\\nType=nonsense\\nExecStart=\\n' "
        f"> {_DROP_IN}/bad.conf && systemctl daemon-reload",
        f"rm {_DROP_IN}/bad.conf && systemctl daemon-reload",
    ),
}


def prepare(fleet: Fleet, change: str = "restart") -> None:
    """Run 1.0, and have 2.0 on disk."""
    service = web(change=change)
    fleet.install(service)
    other = web(change=change, environment={"OTHER": "units differ"})
    bundle = fleet.bundle(other, version="2.0", release=2)
    fleet.node.appb("install", "--no-switch", str(bundle))


@contextmanager
def failing(fleet: Fleet, number: int) -> Iterator[None]:
    """Let the systemctl of the node fail when it is called so often, and never again."""
    place = "/usr/local/bin/systemctl"
    script = f"""#!/bin/sh
echo >> /run/systemctl-calls
if [ "$(wc -l < /run/systemctl-calls)" = {number} ]; then
    echo "Failed to connect to bus: No such file or directory" >&2
    exit 1
fi
exec /usr/bin/systemctl "$@"
"""
    path = fleet.node.root / place.lstrip("/")
    path.write_text(script)
    path.chmod(0o755)
    fleet.node.run("rm", "-f", "/run/systemctl-calls")
    try:
        yield
    finally:
        path.unlink()


@pytest.mark.parametrize("change", ["overlap", "restart"])
def test_systemctl_fails_once(fleet: Fleet, change: str) -> None:
    """Whichever call fails: 1.0 answers, the error says what to do, and a repetition works."""
    prepare(fleet, change)
    number, codes = 0, set()
    while True:
        number += 4 if change == "overlap" else 1
        with failing(fleet, number):
            said = fleet.node.appb("--json", "switch", "web@2.0", check=False)
            calls = len(fleet.node.run("cat", "/run/systemctl-calls").stdout.splitlines())
        if said.status:
            codes.add(said.status)
            assert fleet.get() == "web 1.0", (number, said)
            assert all(said.document["error"].values()), said
            fleet.node.appb("switch", "web@2.0")
        assert fleet.get() == "web 2.0", (number, said)
        fleet.node.appb("switch", "web@1.0")
        assert ".next." not in fleet.node.systemctl("list-units", "--all", "--plain", "web*")
        if calls < number:
            break
    assert codes


@pytest.mark.parametrize("trouble", TROUBLES)
def test_systemd_refuses_a_unit(fleet: Fleet, trouble: str) -> None:
    """What an administrator has made impossible is said; 1.0 runs, and 2.0 does after mending."""
    prepare(fleet)
    breaks, mends = TROUBLES[trouble]
    fleet.node.run("sh", "-c", breaks, check=True)
    said = fleet.node.appb("--json", "switch", "web@2.0", check=False)
    fleet.node.run("sh", "-c", mends, check=True)
    assert said.status in (30, 31), said
    assert all(said.document["error"].values()), said
    if said.status == 31:
        fleet.node.appb("switch", "--resume")
    fleet.node.appb("switch", "web@2.0")
    assert fleet.get() == "web 2.0"


@pytest.mark.parametrize("change", ["overlap", "restart"])
@on_every_systemd
def test_masked_service(fleet: Fleet, change: str) -> None:
    """It cannot follow, and is told so at once; unmasked it follows, and stopped it stays so."""
    prepare(fleet, change)
    fleet.node.systemctl("mask", "web.service")
    said = fleet.node.appb("--json", "switch", "web@2.0", check=False)
    assert said.document["error"]["what"] == "web is masked, so nobody can start it", said
    assert fleet.get() == "web 1.0"
    fleet.node.systemctl("unmask", "web.service")
    fleet.node.appb("switch", "web@2.0")
    assert fleet.get() == "web 2.0"
    fleet.node.systemctl("mask", "--now", "web.service")
    fleet.node.appb("switch", "web@1.0")
    assert fleet.get() == ""
    said = fleet.node.appb("--json", "start", "web", check=False)
    assert "web.service is masked" in said.document["error"]["what"], said
    fleet.node.systemctl("unmask", "web.service")
    fleet.node.appb("start", "web")
    assert fleet.get() == "web 1.0"


@pytest.mark.parametrize("when", ["before", "during"])
def test_start_limit(fleet: Fleet, when: str) -> None:
    """A service that was started too often, before a switch or in it, starts again."""
    fleet.install(web(change="restart"))
    drop_in = (
        f"mkdir {_DROP_IN} && printf '[Unit]\\nStartLimitBurst=1\\nStartLimitIntervalSec=1h\\n'"
    )
    fleet.node.run("sh", "-c", f"{drop_in} > {_DROP_IN}/once.conf", check=True)
    fleet.node.systemctl("daemon-reload")
    if when == "before":
        killing = "systemctl kill --signal=KILL web.service; systemctl is-failed web.service"
        assert wait_until(lambda: fleet.node.run("sh", "-c", killing).status == 0)
        fleet.install(web(change="restart"), version="2.0", release=2)
        assert fleet.get() == "web 2.0"
        return
    said = fleet.install(web(change="restart"), version="2.0", release=2, mode="exit", check=False)
    assert said.status == 30, said
    assert fleet.get() == "web 1.0"


@pytest.mark.parametrize("hangs", ["once", "always"])
def test_daemon_reload_that_hangs(fleet: Fleet, hangs: str) -> None:
    """It is given up: 1.0 runs, also if nothing can be loaded any more; later the switch works."""
    prepare(fleet)
    place = fleet.node.root / "usr/lib/systemd/system-generators/appb-test"
    ends = "" if hangs == "always" else "rm /run/appb-test\n"
    place.write_text(f"#!/bin/sh\n[ -e /run/appb-test ] || exit 0\n{ends}sleep 6\n")
    place.chmod(0o755)
    fleet.node.run("touch", "/run/appb-test", check=True)
    impatient = """
import sys
from appbundle import __main__ as appb
from appbundle.services import systemd

systemd._RELOAD_TIMEOUT_S = 2
sys.exit(appb.main())
"""
    words = (fleet.node.python, "-c", impatient, "--json", "switch", "web@2.0")
    said = fleet.node.run(*words)
    place.unlink()
    assert said.status == (30 if hangs == "once" else 31), said
    assert "systemctl took longer than 2 s" in said.document["error"]["what"]
    assert fleet.get() == "web 1.0"
    if hangs == "always":
        fleet.node.appb("switch", "--resume")
    fleet.node.appb("switch", "web@2.0")
    assert fleet.get() == "web 2.0"


def test_health_check_that_hangs(fleet: Fleet) -> None:
    """A check that never ends is ended, counts as failed, and leaves no process."""
    prepare(fleet)
    health = Health(command=("/bin/server", "--wait"), grace_s=0, attempts=1, timeout_s=1)
    said = fleet.install(
        web(change="restart", health=health), version="3.0", release=3, check=False
    )
    assert said.status == 30, said
    assert fleet.get() == "web 1.0"
    assert fleet.node.run("pgrep", "-f", "^/bin/server --wait").stdout == ""


def test_port_is_somebody_else_s(fleet: Fleet) -> None:
    """A socket that cannot be opened keeps 1.0; once it is free, the same command works."""
    fleet.install(web(change="restart"))
    squats = ("systemd-run", "--unit=squatter", "python3", "-m", "http.server")
    fleet.node.run(*squats, "--bind", "127.0.0.1", "8093", check=True)
    try:
        reaches = ("curl", "-s", "--retry", "20", "--retry-connrefused", "http://127.0.0.1:8093/")
        fleet.node.run(*reaches, check=True)
        bundle = fleet.bundle(web(change="restart", port=8093), version="2.0", release=2)
        said = fleet.node.appb("--json", "install", str(bundle), check=False)
        assert said.status == 30, said
        assert fleet.get() == "web 1.0"
    finally:
        fleet.node.systemctl("stop", "squatter.service")
    fleet.node.appb("switch", "web@2.0")
    assert fleet.get(8093) == "web 2.0"


def test_user_that_was_removed_is_made_again(fleet: Fleet) -> None:
    """A switch makes it again, with the number that owns its state."""
    prepare(fleet)
    before = fleet.node.run("id", "-u", "appb-web", check=True).stdout
    fleet.node.run(
        "sh",
        "-c",
        "sed -i /^appb-web:/d /etc/passwd /etc/group /etc/shadow /etc/gshadow",
        check=True,
    )
    fleet.node.appb("switch", "web@2.0")
    assert fleet.get() == "web 2.0"
    assert fleet.node.run("id", "-u", "appb-web", check=True).stdout == before
