"""Settings and secrets of services on a booted systemd: what the processes have."""

import pytest

from appbundle.bundle.services import Health, Service, Socket
from appbundle.bundle.settings import Setting, Template
from tests.services.apps import web
from tests.services.conftest import Fleet, on_every_systemd

pytestmark = [pytest.mark.root, pytest.mark.slow]

TITLE = Setting(name="title", default="plain")
TOKEN = Setting(name="token", secret=True)
TEMPLATE = Template(source="share/page.j2", target="share/page")
FILES = {"share/page.j2": "{{ version }} {{ title }}\n", "share/page": "unseen\n"}


def showing(change: str = "overlap") -> Service:
    """A service that answers with a rendered file."""
    reload = "HUP" if change == "reload" else ""
    return web(argv=("/bin/server", "--show", "/share/page"), change=change, reload=reload)


@pytest.mark.parametrize("change", ["overlap", "restart", "reload"])
@on_every_systemd
def test_service_sees_rendered_files(fleet: Fleet, change: str) -> None:
    """A service has the current generation's files, after `set`, and again after going back."""
    fleet.install(showing(change), settings=(TITLE,), templates=(TEMPLATE,), files=FILES)
    assert fleet.get() == "1.0 plain"
    pid = fleet.node.show("web.service", "MainPID")
    fleet.node.appb("set", "web", "title=50% of $HOME")
    assert fleet.get() == "1.0 50% of $HOME"
    assert (fleet.node.show("web.service", "MainPID") == pid) == (change == "reload")
    fleet.node.appb("switch", "--previous")
    assert fleet.get() == "1.0 plain"


def test_only_services_of_the_app_follow(fleet: Fleet) -> None:
    """Another app's settings restart nothing of this one, and neither does the same value."""
    fleet.install(showing(), settings=(TITLE,), templates=(TEMPLATE,), files=FILES)
    fleet.install(web("other", port=8082), name="other", settings=(TITLE,))
    pids = [fleet.node.show(unit, "MainPID") for unit in ("web.service", "other.service")]
    fleet.node.appb("set", "web", "title=new")
    after = [fleet.node.show(unit, "MainPID") for unit in ("web.service", "other.service")]
    assert after[0] != pids[0]
    assert after[1] == pids[1]
    said = fleet.node.appb("--json", "set", "web", "title=new")
    assert said.document["outcome"] == "unchanged"
    assert fleet.node.show("web.service", "MainPID") == after[0]


def test_services_follow_a_setting_of_another_app(fleet: Fleet) -> None:
    """What has another app's value is started with the new one in the same switch, and back."""
    port = Setting(name="port", type="port", default="8082")
    fleet.install(web("other", port=8083), name="other", settings=(port,))
    listening = web(
        sockets=(Socket(name="http", listen="127.0.0.1:{{ at }}"),),
        health=Health(http="http://127.0.0.1:{{ at }}/", grace_s=2, timeout_s=1),
    )
    fleet.install(
        listening, settings=(Setting(name="at", type="port", of="other/port", default="1"),)
    )
    assert fleet.get(8082) == "web 1.0"
    fleet.node.appb("set", "other", "port=8090")
    assert (fleet.get(8090), fleet.get(8082)) == ("web 1.0", "")
    fleet.node.appb("switch", "--previous")
    assert (fleet.get(8090), fleet.get(8082)) == ("", "web 1.0")


def test_address_is_a_setting(fleet: Fleet) -> None:
    """Another port is listened at as soon as it is set, and the old one no longer."""
    service = web(
        sockets=(Socket(name="http", listen="127.0.0.1:{{ port }}"),),
        health=Health(http="http://127.0.0.1:{{ port }}/", grace_s=2, timeout_s=1),
    )
    fleet.install(service, settings=(Setting(name="port", type="port", default="8081"),))
    fleet.node.appb("set", "web", "port=8090")
    assert (fleet.get(8090), fleet.get(8081)) == ("web 1.0", "")
    fleet.node.appb("switch", "--previous")
    assert (fleet.get(8090), fleet.get(8081)) == ("", "web 1.0")


@pytest.mark.parametrize(
    "value",
    ['a" ExecStartPre=/bin/false "', "%n %h %%", "$HOME ${HOME}", "\\", "'; id #", "{{ title }}"],
)
def test_value_stays_one_argument(fleet: Fleet, value: str) -> None:
    """Whatever a value contains, it is that argument and that variable of the process."""
    service = web(
        argv=("/bin/server", "--show", "/share/version", "{{ title }}"),
        environment={"TITLE": "<{{ title }}>"},
    )
    fleet.install(service, settings=(TITLE,))
    fleet.node.appb("set", "web", f"title={value}")
    pid = fleet.node.show("web.service", "MainPID")
    assert fleet.node.run("cat", f"/proc/{pid}/cmdline").stdout.split("\0")[-2] == value
    environment = fleet.node.run("cat", f"/proc/{pid}/environ").stdout.split("\0")
    assert f"TITLE=<{value}>" in environment


def test_bad_setting_goes_back_by_itself(fleet: Fleet) -> None:
    """A service that is not healthy with a new setting has its old one again; the code is 30."""
    mode = Template(source="share/mode.j2", target="share/mode")
    fleet.install(
        settings=(Setting(name="mode", default="ok", choices=("ok", "error")),),
        templates=(mode,),
        files={"share/mode.j2": "{{ mode }}\n"},
    )
    said = fleet.node.appb("set", "web", "mode=error", check=False)
    assert said.status == 30
    assert fleet.get() == "web 1.0"
    assert fleet.node.appb("get", "web", "mode").stdout == "ok\n"


@on_every_systemd
def test_secret_is_a_credential(fleet: Fleet) -> None:
    """A service has its secret as a file; nobody else has, and no command line or unit tells it."""
    service = web(argv=("/bin/server", "--credential", "token"))
    fleet.install(service, settings=(TOKEN,))
    first = fleet.get()
    assert first == fleet.node.appb("get", "--reveal", "web", "token").stdout.strip()
    assert len(first) == 43
    fleet.node.run("sh", "-c", "echo sesame > /root/value", check=True)
    fleet.node.appb("set", "web", "--from-file", "token=/root/value")
    assert fleet.get() == "sesame"
    for command in (
        "ps axwwe",
        "systemctl cat web.service",
        "systemctl show web.service",
        "journalctl --no-pager",
        "runuser -u nobody -- grep -rs sesame /apps /var/lib /run",
    ):
        assert "sesame" not in fleet.node.run(*command.split()).stdout, command


@on_every_systemd
def test_secret_in_a_file_is_the_users_own(fleet: Fleet) -> None:
    """A template with a secret is readable for the service, and for no other user."""
    service = showing()
    files = FILES | {"share/page.j2": "{{ token }}\n"}
    fleet.install(service, settings=(TOKEN,), templates=(TEMPLATE,), files=files)
    secret = fleet.get()
    assert len(secret) == 43
    path = "/apps/.appb/generations/current/.rendered/web/share/page"
    owner = fleet.node.run("stat", "-Lc", "%U %a", path).stdout
    assert owner == "appb-web 400\n"
    for user in ("nobody", "appb-web"):
        said = fleet.node.run("runuser", "-u", user, "--", "cat", path)
        assert (said.status, said.stdout) == (1, "")


def test_settings_survive_a_restart_of_the_unit(fleet: Fleet) -> None:
    """`systemctl restart` by hand starts with the current generation's settings."""
    fleet.install(showing(), settings=(TITLE,), templates=(TEMPLATE,), files=FILES)
    fleet.node.appb("set", "web", "title=new")
    fleet.node.systemctl("restart", "web")
    assert fleet.get() == "1.0 new"
