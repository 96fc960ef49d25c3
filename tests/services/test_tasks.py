"""Tasks on a booted systemd: what a release does to its state, and what going back does."""

import contextlib
import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import pytest

from appbundle.bundle.services import Service
from appbundle.bundle.settings import Setting
from appbundle.bundle.tasks import Rollback, Task
from appbundle.errors import ServiceFailedError
from appbundle.flows import configuration
from appbundle.names import AppName, Version
from appbundle.services.embedded.backend import Embedded
from appbundle.store import generations
from tests.crash.support import Node
from tests.services import apps
from tests.services.apps import web
from tests.services.booted import Said, wait_until
from tests.services.conftest import Fleet, on_every_systemd

pytestmark = [pytest.mark.root, pytest.mark.slow]

SNAPSHOT = Task(when="snapshot", argv=("/bin/server", "--snapshot"))
RESTORE = Task(when="restore", argv=("/bin/server", "--restore"))
FAIL = Task(when="migrate", argv=("/bin/server", "--fail"))
WITH_STATE = Rollback(below=2, kind="with-state", reason="rows that are newer")
FORBIDDEN = Rollback(below=2, kind="forbidden", reason="the tables are gone")


def migrate(text: str) -> Task:
    """A migration that replaces the state with a word."""
    return Task(when="migrate", argv=("/bin/server", "--write", text))


def showing_state(change: str = "restart") -> Service:
    """A service that answers with its state."""
    return web(argv=("/bin/server", "--show", "/var/lib/web/data"), change=change)


def first(fleet: Fleet) -> None:
    """Have a release with a state, and the tasks that keep it."""
    fleet.install(showing_state(), tasks=(migrate("one"), SNAPSHOT, RESTORE))
    assert fleet.get() == "one"


def second(
    fleet: Fleet,
    rule: Rollback,
    *,
    mode: str = "ok",
    change: str = "restart",
    task: Task | None = None,
) -> Said:
    """Upgrade it to a release that migrates."""
    return fleet.install(
        showing_state(change),
        version="2.0",
        release=2,
        mode=mode,
        tasks=(task or migrate("two"),),
        rollback=(rule,),
        check=False,
    )


def state(fleet: Fleet) -> str:
    """What is in the state directory."""
    return fleet.node.run("cat", "/var/lib/web/data").stdout.strip()


@on_every_systemd
def test_way_back_with_state(fleet: Fleet) -> None:
    """The state is as it was when the old release was left; the loss must be accepted."""
    first(fleet)
    assert second(fleet, WITH_STATE).status == 0
    assert fleet.get() == "two"
    refused = fleet.node.appb("--json", "switch", "--previous", check=False)
    assert (refused.status, fleet.get()) == (1, "two")
    assert "rows that are newer" in refused.document["error"]["what"]
    done = fleet.node.appb("--json", "switch", "--previous", "--accept-loss")
    assert "rows that are newer" in done.document["losses"][0]
    assert fleet.get() == "one"
    assert second(fleet, WITH_STATE).status == 0
    assert fleet.get() == "two"


def test_way_back_without_state(fleet: Fleet) -> None:
    """Where nothing but the files goes back, the state stays."""
    first(fleet)
    assert second(fleet, Rollback(below=2, kind="code")).status == 0
    fleet.node.appb("switch", "--previous")
    assert fleet.get() == "two"


@on_every_systemd
def test_task_is_confined_as_the_services_user(fleet: Fleet) -> None:
    """What a task writes is its app's, and no unit of it is left."""
    first(fleet)
    assert fleet.node.run("stat", "-c", "%U", "/var/lib/web/data").stdout == "appb-web\n"
    assert "task" not in fleet.node.run("ls", "/usr/local/lib/systemd/system").stdout
    assert "task" not in fleet.node.systemctl("list-units", "--all", "web*")


@on_every_systemd
def test_failed_migration_switches_nothing(fleet: Fleet) -> None:
    """The old release never stops; the code is 30, and the generation tells why."""
    first(fleet)
    pid = fleet.node.show("web.service", "MainPID")
    said = second(fleet, WITH_STATE, task=FAIL)
    assert said.status == 30
    assert "task migrate of web 2.0 failed" in said.document["error"]["what"]
    assert fleet.node.show("web.service", "MainPID") == pid
    history = fleet.node.appb("--json", "history").document
    assert history["current"] == 1
    assert "migrate" in history["generations"][-1]["outcome"]
    assert "task" not in fleet.node.run("ls", "/usr/local/lib/systemd/system").stdout


@pytest.mark.parametrize("change", ["overlap", "restart"])
def test_unhealthy_release_restores_the_state(fleet: Fleet, change: str) -> None:
    """Going back by itself brings the state back too, before or after the switch proper."""
    first(fleet)
    said = second(fleet, WITH_STATE, mode="error", change=change)
    assert said.status == 30, said
    assert fleet.get() == "one"
    assert state(fleet) == "one"


def test_unhealthy_release_that_forbids_going_back_stays(fleet: Fleet) -> None:
    """Nothing goes back by itself over a state that the old release cannot read: code 31."""
    first(fleet)
    said = second(fleet, FORBIDDEN, mode="error")
    assert said.status == 31
    assert "the tables are gone" in said.document["error"]["what"]
    assert fleet.node.appb("--json", "history").document["current"] == 2


def test_confirmation_needs_a_way_back(fleet: Fleet) -> None:
    """--confirm-within promises to go back, so it is refused where that is forbidden."""
    first(fleet)
    bundle = fleet.bundle(
        showing_state(), version="2.0", release=2, tasks=(migrate("two"),), rollback=(FORBIDDEN,)
    )
    fleet.node.appb("install", "--no-switch", str(bundle))
    said = fleet.node.appb("switch", "web@2.0", "--confirm-within", "1h", check=False)
    assert said.status == 1
    assert (fleet.get(), state(fleet)) == ("one", "one")


def test_stopped_service_stays_stopped_through_a_restore(fleet: Fleet) -> None:
    """A restore starts nothing that somebody had stopped."""
    first(fleet)
    second(fleet, WITH_STATE)
    fleet.node.systemctl("stop", "web")
    fleet.node.appb("switch", "--previous", "--accept-loss")
    assert state(fleet) == "one"
    assert fleet.node.systemctl("is-active", "web", check=False) == "inactive"


def test_task_has_settings_and_secrets(fleet: Fleet) -> None:
    """A task of the new release is filled in with the new release's settings."""
    fleet.install(
        showing_state(),
        settings=(Setting(name="word", default="filled"), Setting(name="token", secret=True)),
        tasks=(migrate("{{ word }} {{ version }}"),),
    )
    assert fleet.get() == "filled 1.0"


def test_remove_keeps_state_and_purge_does_not(fleet: Fleet) -> None:
    """State, with its snapshots, goes with --purge alone."""
    first(fleet)
    second(fleet, WITH_STATE)
    fleet.node.appb("remove", "web")
    assert state(fleet) == "two"
    fleet.install(showing_state(), version="3.0", release=3)
    assert fleet.get() == "two"
    fleet.node.appb("remove", "--purge", "web")
    left = "ls -d /var/lib/web /var/cache/web /var/log/web /run/web 2>/dev/null"
    assert fleet.node.run("sh", "-c", left).stdout == ""


def test_interrupted_restore_goes_on(fleet: Fleet) -> None:
    """A death while state is put back leaves neither the one nor the other, so it is done again."""
    first(fleet)
    second(fleet, WITH_STATE)
    fleet.node.systemctl("stop", "web")
    fleet.node.run("sh", "-c", "echo half > /var/lib/web/data", check=True)
    left = {"before": 2, "after": 1, "running": ["web/web"], "onward": True}
    (fleet.node.root / "apps/.appb/pending.json").write_text(json.dumps(left))
    done = fleet.node.appb("--json", "switch", "--resume")
    assert done.document == {"outcome": "finished", "generation": 1}
    assert fleet.get() == "one"


def test_task_under_the_embedded_supervisor(memory: Path, node: Node, program: Path) -> None:
    """The same task, settings filled in, is run by `appb run`; what fails says so."""
    word = Setting(name="word", default="filled")
    made = apps.bundle(memory, program, settings=(word,), tasks=(migrate("{{ word }}"),))
    node.install(made)
    current = generations.current(node.layout)
    assert current is not None
    wanted = configuration.wanted_of(node.layout, current, AppName("web"))
    assert wanted is not None
    backend = Embedded(node.layout)
    backend.run_task(wanted, wanted.tasks[0])
    assert (node.layout.state(AppName("web")) / "data").read_text() == "filled\n"
    broken = dataclasses.replace(wanted, version=Version("9.9"))
    with pytest.raises(ServiceFailedError, match="task migrate of web"):
        backend.run_task(broken, wanted.tasks[0])


_CALLER = """
import sys
from pathlib import Path
from appbundle.flows import configuration
from appbundle.layout import Layout
from appbundle.services.embedded.backend import Embedded
from appbundle.store import generations

layout = Layout(Path(sys.argv[1]))
wanted = configuration.wanted_of(layout, generations.current(layout), "web")
Embedded(layout).run_task(wanted, wanted.tasks[0])
"""


def test_task_ends_with_a_switch_that_is_killed(memory: Path, node: Node, program: Path) -> None:
    """Under the embedded supervisor too nobody goes on changing state for a switch that died."""
    task = Task(when="migrate", argv=("/bin/server", "--wait"))
    node.install(apps.bundle(memory, program, tasks=(task,)))
    caller = subprocess.Popen([sys.executable, "-c", _CALLER, node.root])
    try:
        assert wait_until(lambda: bool(_servers()))
    finally:
        caller.kill()
        caller.wait()
    assert wait_until(lambda: not _servers())


def _servers() -> set[str]:
    """The processes of this machine that run such a task, in whatever node."""
    found = set()
    for place in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if (place / "cmdline").read_bytes() == b"/bin/server\0--wait\0":
                found.add(place.name)
    return found
