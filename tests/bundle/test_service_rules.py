"""What a manifest may say of services, settings and tasks."""

from collections.abc import Iterator

import msgspec
import pytest

from appbundle.bundle import confinement
from appbundle.bundle.service_rules import check_services
from appbundle.bundle.services import Health, Limits, Service, Socket, Stop
from appbundle.bundle.setting_rules import check_settings, value_problem
from appbundle.bundle.settings import Setting, Template
from appbundle.bundle.tasks import Rollback, Task
from appbundle.errors import ManifestError

GOOD = Service(
    name="web",
    argv=("/bin/web", "--port", "80"),
    environment={"MODE": "fast"},
    sockets=(Socket(name="http", listen="127.0.0.1:80"), Socket(name="own", listen="/run/web/s")),
    health=Health(http="http://127.0.0.1/"),
    after=("database", "queue/broker"),
    change="overlap",
    entitlements=("bind-low", "device:/dev/kvm", "write:/srv/data"),
)

WRONG: dict[str, dict[str, object]] = {
    "name": {"name": "Web"},
    "reserved name": {"name": "next"},
    "no command": {"argv": ()},
    "relative command": {"argv": ("web",)},
    "newline in the command": {"argv": ("/bin/web", "a\nExecStartPost=/bin/sh")},
    "variable": {"environment": {"A B": "1"}},
    "loader's variable": {"environment": {"LD_PRELOAD": "/x.so"}},
    "manager's variable": {"environment": {"LISTEN_FDS": "3"}},
    "newline in a variable": {"environment": {"A": "1\nUser=root"}},
    "directory": {"directory": "srv"},
    "two sockets of one name": {"sockets": (GOOD.sockets[0], GOOD.sockets[0])},
    "socket of another app": {"sockets": (Socket(name="a", listen="/run/other/s"),)},
    "socket that climbs": {"sockets": (Socket(name="a", listen="/run/web/../other/s"),)},
    "socket with the name of second instances": {
        "sockets": (Socket(name="next", listen="127.0.0.1:80"),)
    },
    "socket without port": {"sockets": (Socket(name="a", listen="127.0.0.1"),)},
    "port": {"sockets": (Socket(name="a", listen="127.0.0.1:99999"),)},
    "two ways of health": {"health": Health(http="http://a/", tcp="a:1")},
    "no way of health": {"health": Health()},
    "scheme": {"health": Health(http="file:///etc/passwd")},
    "no host": {"health": Health(http="http:///status")},
    "signal": {"stop": Stop(signal="KILLALL")},
    "endless stop": {"stop": Stop(timeout_s=0)},
    "calendar of what runs for ever": {"every": "daily"},
    "overlap without sockets": {"sockets": ()},
    "reload without a signal": {"change": "reload"},
    "ready by nothing": {"ready": "socket", "health": None},
    "reference": {"after": ("a/b/c",)},
    "memory": {"limits": Limits(memory_bytes=0)},
    "unknown entitlement": {"entitlements": ("root",)},
    "entitlement's argument": {"entitlements": ("device:/etc/shadow",)},
    "argument too many": {"entitlements": ("listen:80",)},
    "capability": {"entitlements": ("capability:everything",)},
    "path that climbs": {"entitlements": ("write:/srv/../etc",)},
    "entitlements out of order": {"entitlements": ("listen", "bind-low")},
    "entitlement twice": {"entitlements": ("listen", "listen")},
}


def test_good_service_is_accepted() -> None:
    """A service that uses most of what can be declared is accepted."""
    check_services("web", (GOOD,))


@pytest.mark.parametrize("change", WRONG.values(), ids=list(WRONG))
def test_broken_rule_is_refused_by_the_service_s_name(change: dict[str, object]) -> None:
    """Each broken rule is refused, and the refusal says in which service."""
    service = msgspec.structs.replace(GOOD, **change)
    with pytest.raises(ManifestError, match=f"^service {service.name}: "):
        check_services("web", (service,))


def test_two_services_of_one_name_are_refused() -> None:
    """A name stands for one service."""
    with pytest.raises(ManifestError, match="same name"):
        check_services("web", (GOOD, GOOD))


def test_every_entitlement_has_words() -> None:
    """Whatever can be opened can be said before it is."""
    arguments = {"device": "/dev/kvm", "capability": "net_admin", "read": "/srv", "write": "/srv"}
    texts = [f"{k}:{arguments[k]}" if k in arguments else k for k in confinement.KINDS]
    said = list(confinement.words(texts))
    assert len(set(said)) == len(texts)
    assert not any("{}" in phrase for phrase in said)


def test_two_sockets_of_one_unit_are_refused() -> None:
    """A main service's socket is not named as another service that has a socket of that name."""
    (socket, *_) = GOOD.sockets
    other = msgspec.structs.replace(GOOD, name="http")
    elsewhere = msgspec.structs.replace(GOOD, name="admin")
    check_services("web", (GOOD, elsewhere))
    with pytest.raises(ManifestError, match="also that of service http"):
        check_services("web", (GOOD, msgspec.structs.replace(other, sockets=(socket,))))


VALUES = {
    Setting(name="a", type="integer"): ("-5", "5.0"),
    Setting(name="a", type="boolean"): ("true", "yes"),
    Setting(name="a", type="port"): ("65535", "65536"),
    Setting(name="a", type="address"): ("::1", "localhost"),
    Setting(name="a", choices=("x", "y")): ("x", "z"),
    Setting(name="a"): ("any text", "line\nline"),
}


def values() -> Iterator[tuple[Setting, str, str]]:
    """Each type with a value that it takes and one that it does not."""
    return ((setting, good, bad) for setting, (good, bad) in VALUES.items())


@pytest.mark.parametrize(("setting", "good", "bad"), list(values()))
def test_values_have_their_setting_s_type(setting: Setting, good: str, bad: str) -> None:
    """A value that its type does not take is named with the reason."""
    assert value_problem(setting, good) == ""
    assert value_problem(setting, bad) != ""


WRONG_SETTINGS: tuple[
    tuple[tuple[Setting, ...], tuple[Template, ...], tuple[Task, ...], tuple[Rollback, ...]],
    ...,
] = (
    ((Setting(name="A"),), (), (), ()),
    ((Setting(name="a", secret=True, default="x"),), (), (), ()),
    ((Setting(name="a", type="port", default="0"),), (), (), ()),
    ((Setting(name="a"), Setting(name="a")), (), (), ()),
    ((), (Template(source="../a", target="b"),), (), ()),
    ((), (Template(source="a", target="/etc/b"),), (), ()),
    ((), (), (Task(when="migrate", argv=("db",)),), ()),
    ((), (), (Task(when="migrate", argv=("/db",), timeout_s=0),), ()),
    ((), (), (), (Rollback(below=5, kind="forbidden"),)),
    ((), (), (), (Rollback(below=0, kind="code"),)),
)


@pytest.mark.parametrize(("settings", "templates", "tasks", "rollback"), WRONG_SETTINGS)
def test_broken_rule_of_settings_is_refused(
    settings: tuple[Setting, ...],
    templates: tuple[Template, ...],
    tasks: tuple[Task, ...],
    rollback: tuple[Rollback, ...],
) -> None:
    """So it is with settings, templates, tasks and what going back means."""
    with pytest.raises(ManifestError):
        check_settings(settings, templates, tasks, rollback)
