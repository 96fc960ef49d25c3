"""Units as a real systemd takes them: how tight they are, what runs, and what cannot get in."""

import pytest

from appbundle.bundle.services import Limits, Service
from tests.services.apps import web
from tests.services.conftest import Fleet, on_every_systemd

pytestmark = [pytest.mark.root, pytest.mark.slow]


def exposure(fleet: Fleet, unit: str = "web.service") -> float:
    """What systemd-analyze calls the exposure of a unit."""
    said = fleet.node.run("systemd-analyze", "security", "--no-pager", unit, check=True)
    line = next(each for each in said.stdout.splitlines() if "Overall exposure level" in each)
    return float(line.split(": ")[1].split()[0])


@on_every_systemd
def test_socket_activated_service_is_hardly_exposed(fleet: Fleet) -> None:
    """A service that only gets a socket has next to nothing: 0.3 at most."""
    fleet.install()
    assert exposure(fleet) <= 0.3


@on_every_systemd
def test_network_service_is_little_exposed(fleet: Fleet) -> None:
    """One that opens and takes connections by itself: 1.0 at most."""
    service = web(
        sockets=(),
        environment={"PORT": "8081"},
        entitlements=("listen", "network-out"),
        change="restart",
    )
    fleet.install(service)
    assert exposure(fleet) <= 1.0


def protections(fleet: Fleet) -> dict[str, bool]:
    """Which protections of the running service hold, by `appb audit`."""
    (service,) = fleet.node.appb("--json", "audit", check=False).document["services"]
    return {each["protection"]: each["holds"] for each in service["protections"]}


@on_every_systemd
def test_audit_finds_what_is_declared(fleet: Fleet) -> None:
    """Every protection is effective, but limits that this machine has no controller for."""
    fleet.install()
    failing = {name for name, holds in protections(fleet).items() if not holds}
    assert failing <= {"limit of memory", "limit of tasks"}


@pytest.mark.parametrize(
    ("line", "broken"),
    [
        ("User=root", "user"),
        ("CapabilityBoundingSet=CAP_SYS_ADMIN\nPrivateUsers=no", "capabilities"),
        ("BindPaths=/etc:/var/tmp\nPrivateTmp=no", "writable files"),
        ("PrivateDevices=no", "devices"),
        ("PrivateNetwork=no", "network of its own"),
        ("ProtectProc=default", "other users' processes"),
        ("LimitNOFILE=100000", "limit of open files"),
    ],
)
def test_audit_finds_what_a_drop_in_opened(fleet: Fleet, line: str, broken: str) -> None:
    """What the unit says elsewhere is of no interest: the process itself tells."""
    fleet.install(web(limits=Limits(open_files=1024)))
    assert protections(fleet)[broken]
    fleet.node.run(
        "sh",
        "-c",
        "mkdir -p /etc/systemd/system/web.service.d && printf '[Service]\\n%s\\n' \"$1\" "
        "> /etc/systemd/system/web.service.d/open.conf && systemctl daemon-reload "
        "&& systemctl restart web",
        "sh",
        line,
        check=True,
    )
    assert not protections(fleet)[broken]


@on_every_systemd
def test_texts_of_a_manifest_stay_texts(fleet: Fleet) -> None:
    """Percent signs, dollars, quotes and backslashes reach the program as they are."""
    odd = ("%n %%", "$HOME ${PATH}", "\"double\" 'single'", "back\\slash \\x41", "a;b|c # d")
    service = web(
        argv=("/bin/server", "--show", "/share/version", *odd), environment={"ODD": " ".join(odd)}
    )
    fleet.install(service)
    (pid,) = fleet.node.pids("web.service")
    command = fleet.node.run("cat", f"/proc/{pid}/cmdline").stdout.split("\0")
    assert tuple(command[3:-1]) == odd
    environment = fleet.node.run("cat", f"/proc/{pid}/environ").stdout.split("\0")
    assert f"ODD={' '.join(odd)}" in environment


@on_every_systemd
def test_service_finds_its_own_user(fleet: Fleet) -> None:
    """getpwuid(3) and getgrgid(3) know whom a service runs as, whatever its tree has there."""
    fleet.install(web(argv=("/bin/server", "--user")), files={"etc/passwd": "x:x:1:1::/:/x\n"})
    assert fleet.get() == "appb-web appb-web"
    assert fleet.node.appb("verify", "web").status == 0


def test_tree_without_users_gets_none(fleet: Fleet) -> None:
    """Where a tree has no passwd or group file there is nothing to show them over."""
    fleet.install(web(argv=("/bin/server", "--user")), without=("etc/passwd", "etc/group"))
    assert fleet.get() == "? ?"
    assert fleet.node.appb("verify", "web").status == 0


def job(**changed: object) -> Service:
    """A service that runs to its end once a day."""
    values: dict[str, object] = {
        "argv": ("/bin/server", "--once"),
        "kind": "once",
        "every": "daily",
        "sockets": (),
        "health": None,
        "change": "restart",
    }
    return web("job", **(values | changed))  # type: ignore[arg-type]


@on_every_systemd
def test_timer_counts_at_once(fleet: Fleet) -> None:
    """A timer is started with its app's installation, and ends with its service."""
    fleet.install(web(), job())
    assert fleet.node.systemctl("is-active", "web.job.timer") == "active"
    fleet.install(web(), version="2.0", release=2)
    assert fleet.node.systemctl("is-active", "web.job.timer", check=False) == "inactive"


@on_every_systemd
def test_units_are_without_a_warning(fleet: Fleet) -> None:
    """systemd takes every line of our units."""
    fleet.install(web(), job())
    said = fleet.node.run("systemd-analyze", "verify", "web.service", "web.job.timer")
    # It looks for the program on the host, where it is not.
    lines = [each for each in said.stderr.splitlines() if "/bin/server is not exec" not in each]
    assert not [each for each in lines if "web" in each]
