"""The embedded supervisor: the same promises whether it is s6 or supervisor from PyPI."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from appbundle.bundle.services import Health, Service, Socket
from appbundle.bundle.settings import Setting
from appbundle.errors import ServiceFailedError
from appbundle.names import AppName
from appbundle.services import holder
from appbundle.services.embedded.backend import Embedded
from appbundle.services.embedded.places import MARK
from appbundle.services.model import Instance, Key, State
from appbundle.system import daemons
from tests.crash.support import Node, Said, argv, memory_directory, new_node, run_cli
from tests.runtime.node import is_alive
from tests.services import apps

pytestmark = pytest.mark.root

KINDS = ("s6", "supervisor")
WEB = Instance(Key(AppName("web"), "web"))
PATIENCE_S = 30.0


def free_port() -> int:
    """A port that nobody listens at; other tests run on this machine too."""
    with socket.socket() as trial:
        trial.bind(("127.0.0.1", 0))
        return int(trial.getsockname()[1])


def wait_until(true: Callable[[], object], what: str) -> None:
    """Wait for something that happens by itself."""
    deadline = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


@dataclass(slots=True)
class Site:
    """A node with its supervisor, and a way to make bundles for it."""

    node: Node
    program: Path
    kind: str
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[str] | None = None

    @property
    def backend(self) -> Embedded:
        """Its keeper of services."""
        return Embedded(self.node.layout)

    def supervise(self) -> subprocess.Popen[str]:
        """Start `appb supervise` and wait until it takes commands."""
        text = f'[services]\nsupervisor = "{self.kind}"\n'
        (self.node.layout.settings / "node.toml").write_text(text)
        self.process = subprocess.Popen(
            argv(self.node, "supervise"), stderr=subprocess.PIPE, text=True
        )
        wait_until(lambda: self.backend.is_running or self.process_ended(), "not supervised")
        return self.process

    def process_ended(self) -> bool:
        """Whether `appb supervise` has ended."""
        return self.process is not None and self.process.poll() is not None

    def end(self, number: int = signal.SIGTERM) -> int:
        """End it and give its exit status."""
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(timeout=60)

    def web(self, name: str = "web", /, **changed: object) -> Service:
        """A web service on this site's port."""
        return apps.web(port=self.port, **{"name": name, **changed})  # type: ignore[arg-type]

    def worker(self, *words: str, **changed: object) -> Service:
        """A service without sockets."""
        values: dict[str, object] = {"sockets": (), "health": None, "change": "restart"}
        return self.web(**{"argv": ("/bin/server", *words), **values, **changed})

    def install(self, *services: Service, **how: object) -> Said:
        """Make a bundle and install it."""
        place = self.node.root.parent
        file = apps.bundle(place, self.program, *(services or (self.web(),)), **how)  # type: ignore[arg-type]
        return run_cli(self.node, "--json", "install", str(file))

    def get(self) -> str:
        """What the server answers; nothing if nobody listens."""
        try:
            url = f"http://127.0.0.1:{self.port}/"
            with urllib.request.urlopen(url, timeout=PATIENCE_S) as answer:
                return str(answer.read().decode().strip())
        except OSError:
            return ""

    def seen(self, instance: Instance = WEB) -> State:
        """What the supervisor says of an instance."""
        return self.backend.observe([instance])[instance].state

    def pid(self) -> int:
        """Of the web service."""
        pid = self.backend.observe([WEB])[WEB].pid
        assert pid is not None
        return pid

    def marked(self) -> set[int]:
        """All that its supervisor has started, but services."""
        return daemons.marked(f"{MARK}={self.node.root}")


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The web server of the bundles."""
    return apps.compile_server(tmp_path_factory.mktemp("server"))


@pytest.fixture(params=KINDS)
def site(request: pytest.FixtureRequest, program: Path) -> Iterator[Site]:
    """A supervised node, once with each supervisor."""
    if request.param == "s6" and not shutil.which("s6-svscan"):
        pytest.skip("needs s6")
    with memory_directory() as place:
        found = Site(new_node(place / "node"), program, request.param)
        found.supervise()
        try:
            yield found
        finally:
            with contextlib.suppress(ProcessLookupError):
                found.end()
            if found.process is not None and found.process.stderr is not None:
                found.process.stderr.close()
            assert not found.marked()


@contextlib.contextmanager
def load(site: Site) -> Iterator[list[str]]:
    """Ask again and again meanwhile; gives the answers, "" for a request that failed."""
    answers: list[str] = []
    ending = threading.Event()

    def ask() -> None:
        while not ending.is_set():
            answers.append(site.get())
            time.sleep(0.005)

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        yield answers
    finally:
        ending.set()
        for thread in threads:
            thread.join()


@pytest.mark.parametrize("change", ["overlap", "restart"])
def test_upgrade_drops_no_request(site: Site, change: str) -> None:
    """An upgrade and the way back fail no request, and what runs follows what is current."""
    site.install(site.web(change=change))
    with load(site) as answers:
        assert site.install(site.web(change=change), version="2.0", release=2).status == 0
        assert site.get() == "web 2.0"
        assert run_cli(site.node, "switch", "--previous").status == 0
        assert site.get() == "web 1.0"
    assert set(answers) == {"web 1.0", "web 2.0"}
    assert site.seen(Instance(WEB.key, is_next=True)) is State.ABSENT


@pytest.mark.parametrize("change", ["overlap", "restart"])
def test_bad_release_goes_back_by_itself(site: Site, change: str) -> None:
    """A release that answers badly is reverted, exit code 30, and no request found nobody."""
    site.install(site.web(change=change))
    with load(site) as answers:
        said = site.install(site.web(change=change), version="2.0", release=2, mode="exit")
        assert said.status == 30
        assert site.get() == "web 1.0"
    assert set(answers) == {"web 1.0"}
    assert site.seen() is State.RUNNING


def test_secret_is_a_file_of_the_service(site: Site) -> None:
    """A service has the app's secrets as files, as it has under systemd."""
    service = site.web(argv=("/bin/server", "--credential", "token"))
    said = site.install(service, settings=(Setting(name="token", secret=True),))
    assert said.status == 0, said
    assert site.get() == run_cli(site.node, "get", "--reveal", "web", "token").stdout.strip()
    assert len(site.get()) == 43


def test_stopped_service_stays_stopped(site: Site) -> None:
    """A stop closes the port, lasts through an upgrade, and ends with a start."""
    site.install()
    assert run_cli(site.node, "stop", "web").status == 0
    assert site.get() == ""
    site.install(version="2.0", release=2)
    assert (site.seen(), site.get()) == (State.STOPPED, "")
    assert run_cli(site.node, "start", "web").status == 0
    assert site.get() == "web 2.0"


def test_killed_service_comes_back(site: Site) -> None:
    """A service that dies is started again, and connections wait for it."""
    site.install()
    before = site.pid()
    os.kill(before, signal.SIGKILL)
    assert site.get() == "web 1.0"
    assert site.pid() != before


@pytest.mark.slow
def test_service_that_cannot_run_is_given_up(site: Site) -> None:
    """Who ends again and again at once has failed, is told why, and may be started anew."""
    site.install(site.worker(), mode="exit")
    wait_until(lambda: site.seen() is State.FAILED, "still tried")
    now = site.backend.observe([WEB])[WEB]
    # supervisor does not tell the status of who ended in its first seconds.
    how = "it ended with status 3" if site.kind == "s6" else "it ended soon after its start"
    assert now.why == f"it was started too often; {how}"
    # It may have ended before it could be called started, or not yet.
    with contextlib.suppress(ServiceFailedError):
        site.backend.start(WEB)
    assert site.seen() in (State.STARTING, State.RUNNING)


def test_ready_means_what_the_service_says(site: Site) -> None:
    """A service that says when it is ready is not started before, nor one that never says so."""
    site.install(site.web(ready="notify"), mode="notify")
    assert site.seen() is State.RUNNING
    said = site.install(site.web(ready="notify", ready_timeout_s=1), version="2.0", release=2)
    assert said.status == 30
    assert "was not ready in 1 s" in said.document["error"]["what"]
    assert site.get() == "web 1.0"


def test_service_that_runs_to_its_end(site: Site) -> None:
    """A `once` service is done when it has ended well, and an error when it has not."""
    site.install(site.worker("--once", kind="once"))
    assert site.seen() is State.DONE
    failing = site.worker(name="other", kind="once")
    said = site.install(failing, version="2.0", release=2, mode="exit")
    assert said.status == 30
    assert "ended with status 3" in said.document["error"]["what"]


def test_reload_reaches_the_service(site: Site) -> None:
    """A reload is the declared signal to the service, which stays the same process."""
    site.install(site.web(reload="HUP"))
    before = site.pid()
    site.backend.reload(WEB)
    log = site.backend.places.log("web.web") / "current"
    wait_until(lambda: "reloaded" in log.read_text(), "no reload")
    assert site.pid() == before


def test_services_start_in_order_and_stop_in_reverse(site: Site) -> None:
    """What a service needs is there before it and after it, at a start and an end of the node."""
    other = Socket(name="http", listen=f"127.0.0.1:{free_port()}")
    second = site.web("second", sockets=(other,), health=None, after=("web/first",))
    site.install(second, site.web("first"))
    site.end()
    site.supervise()
    keys = [Instance(Key(AppName("web"), name)) for name in ("first", "second")]
    wait_until(lambda: all(site.seen(key) is State.RUNNING for key in keys), "not running")
    pids = [site.backend.observe([key])[key].pid or 0 for key in keys]
    started = [Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19] for pid in pids]
    assert started == sorted(started, key=int)
    assert site.process is not None
    site.process.terminate()
    alive = [True, True]
    while any(alive):
        alive = [is_alive(pid) for pid in pids]
        assert alive != [False, True]


def test_disabled_service_is_not_started_at_boot(site: Site) -> None:
    """What is disabled runs on, but is not started with the node; enabled again it is."""
    site.install()
    site.backend.set_enabled([WEB.key], enabled=False)
    assert not site.backend.observe([WEB])[WEB].enabled
    assert site.get() == "web 1.0"
    site.end()
    site.supervise()
    assert site.seen() is State.STOPPED
    site.backend.set_enabled([WEB.key], enabled=True)
    site.end()
    site.supervise()
    wait_until(lambda: site.seen() is State.RUNNING, "not started")


def test_second_supervisor_is_refused(site: Site) -> None:
    """A node has one supervisor: another ends at once, exit code 11, and names the first."""
    done = subprocess.run(argv(site.node, "supervise"), capture_output=True, text=True, check=False)
    assert site.process is not None
    assert done.returncode == 11
    assert f"process {site.process.pid}" in done.stderr


def test_services_end_with_appb_supervise(site: Site) -> None:
    """If `appb supervise` is killed, its services end, and the next one starts them again."""
    site.install()
    before = site.pid()
    site.end(signal.SIGKILL)
    site.supervise()
    assert not is_alive(before)
    wait_until(lambda: site.get() == "web 1.0", "not serving")


def test_killed_supervisor_is_replaced(site: Site) -> None:
    """If s6-svscan or supervisord is killed, everything starts anew, as after a boot."""
    site.install()
    # Who dies in its first seconds is not tried again.
    time.sleep(5)
    assert site.process is not None
    before = site.pid()
    children = Path(f"/proc/{site.process.pid}/task/{site.process.pid}/children").read_text()
    os.kill(int(children.split()[0]), signal.SIGKILL)
    wait_until(lambda: not is_alive(before), "the old one runs on")
    wait_until(lambda: site.get() == "web 1.0", "not replaced")


def test_restart_goes_on_without_its_caller(site: Site) -> None:
    """If whoever restarts a service is killed in the middle, it is started all the same."""
    site.install()
    before = site.pid()
    caller = subprocess.Popen(argv(site.node, "restart", "web"), stdout=subprocess.DEVNULL)
    wait_until(lambda: not is_alive(before), "not stopped")
    caller.kill()
    caller.wait()
    wait_until(lambda: site.seen() is State.RUNNING, "not started")
    assert site.get() == "web 1.0"


def test_killed_holder_is_replaced(site: Site) -> None:
    """If the holder is killed, what runs keeps its port, and a restart puts things right."""
    site.install()
    places = site.backend.places
    words = b"\0".join([b"-m", b"appbundle.services.holder", bytes(site.node.root)])
    (pid,) = (each for each in site.marked() if words in command_line(each))
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not is_alive(pid), "alive")
    assert site.get() == "web 1.0"
    wait_until(lambda: answers(places.sockets), "not replaced")
    assert run_cli(site.node, "restart", "web").status == 0
    assert site.get() == "web 1.0"
    assert run_cli(site.node, "stop", "web").status == 0
    assert site.get() == ""


def command_line(pid: int) -> bytes:
    """The arguments of a process, which may have ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def answers(path: Path) -> bool:
    """Whether a holder is there."""
    try:
        return holder.ask(path, "reload") == "ok"
    except holder.HolderError:
        return False


def test_program_is_called_later(site: Site) -> None:
    """What shall run later is run by the holder, when its time has come."""
    site.install()
    mark = site.node.root / "called"
    site.backend.call_later(["/bin/touch", str(mark)], after_s=1)
    assert not mark.exists()
    wait_until(mark.exists, "not called")
    assert list(site.backend.places.later.iterdir()) == []


def test_missed_timer_is_made_up_for(site: Site) -> None:
    """What was due while nobody ran is started once at the next start; what is not due waits."""
    site.install(
        site.worker("--once", kind="once", every="daily"),
        site.worker("--once", name="other", kind="once", every="daily"),
    )
    places = site.backend.places
    logs = [places.log(f"web.{name}") / "current" for name in ("web", "other")]
    wait_until(lambda: all("ran" in log.read_text() for log in logs), "not run when installed")
    site.end()
    three_days_ago = time.time() - 3 * 86_400
    os.utime(places.timers / "web.web", (three_days_ago, three_days_ago))
    site.supervise()
    wait_until(lambda: logs[0].read_text().count("ran") == 2, "not made up for")
    site.end()
    assert [log.read_text().count("ran") for log in logs] == [2, 1]


def test_log_is_what_the_service_said(site: Site) -> None:
    """`appb logs` ends in a program that prints what the service has written."""
    site.install()
    command = site.backend.log_command([WEB.key], lines=5, follow=False)
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "serving web 1.0" in printed


def test_taken_port_is_a_clear_error(site: Site) -> None:
    """A port that somebody else has makes the installation fail and say so."""
    with socket.create_server(("127.0.0.1", site.port)):
        said = site.install()
    assert said.status == 30
    assert f"127.0.0.1:{site.port}: Address already in use" in said.document["error"]["what"]


def test_start_that_fails_says_what_was_started(site: Site) -> None:
    """Services started before the one that could not be are named, and run on."""
    port = free_port()
    other = Socket(name="http", listen=f"127.0.0.1:{port}")
    second = site.web("second", sockets=(other,), health=None, after=("web/first",))
    site.install(second, site.web("first"))
    assert run_cli(site.node, "stop", "web").status == 0
    with socket.create_server(("127.0.0.1", port)):
        said = run_cli(site.node, "--json", "start", "web")
    assert said.status != 0
    assert said.document["error"]["kept"] == ("runs: web/first; does not run: web/second")
    assert said.document["error"]["hint"] == "appb logs web/second"
    assert site.get() == "web 1.0"


def test_services_that_do_not_name_each_other_start_together(site: Site) -> None:
    """Each of two is healthy only if the other one runs already: nobody waits for the first."""
    port = free_port()
    other = Socket(name="http", listen=f"127.0.0.1:{port}")
    asks_other = Health(http=f"http://127.0.0.1:{port}/", grace_s=2, timeout_s=1)
    said = site.install(site.web("first", health=asks_other), site.web("second", sockets=(other,)))
    assert said.status == 0, said
    assert run_cli(site.node, "restart", "--all").status == 0
    assert run_cli(site.node, "stop", "--all").status == 0
    assert site.get() == ""
    assert run_cli(site.node, "start", "--all").status == 0
    assert site.get() == "web 1.0"


def test_removed_app_leaves_nothing(site: Site) -> None:
    """Removing an app ends its services; the supervisor forgets them."""
    site.install()
    pid = site.pid()
    assert run_cli(site.node, "remove", "web").status == 0
    assert not is_alive(pid)
    assert site.seen() is State.ABSENT
    assert site.get() == ""


def test_status_below_a_root_without_supervisor(node: Node) -> None:
    """Below a root directory nobody starts a supervisor by himself; the error says who does."""
    said = run_cli(node, "--json", "status")
    assert said.status == 1
    assert "appb supervise" in said.document["error"]["hint"]
