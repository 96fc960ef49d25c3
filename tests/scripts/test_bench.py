"""scripts/bench: it measures, tells, and leaves nothing behind; no test looks at a time."""

import http.server
import importlib
import itertools
import json
import os
import subprocess
import sys
import threading
import time
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from appbundle.bundle.services import Service

_SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Import a module of the bench by its name."""
    monkeypatch.syspath_prepend(_SCRIPTS / "bench.d")

    def load(name: str) -> ModuleType:
        return importlib.import_module(name)

    return load


def _bench(*words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [_SCRIPTS / "bench", *words],
        env={**os.environ, "APPB_PYTHON": sys.executable},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def _tree(path: Path, **contents: str) -> Path:
    (path / "app").mkdir(parents=True)
    for name, content in contents.items():
        (path / "app" / name).write_text(content)
    (path / "link").symlink_to("app")
    return path


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: it makes file systems")
def test_smallest_run_measures_and_leaves_nothing(tmp_path: Path) -> None:
    """Two tiny releases give all values, a table and a plot; no mount and no image stays."""
    old = _tree(tmp_path / "old", same="1", changed="before")
    new = _tree(tmp_path / "new", same="1", changed="after")
    work, found, plot = tmp_path / "work", tmp_path / "found.json", tmp_path / "plot.svg"
    done = _bench(
        *("install", "upgrade", "delta", "--rounds", "1", "--peers", "none"),
        *("--trees", old, new, "--workdir", work, "--json", found, "--plot", plot),
    )
    assert done.returncode == 0, done.stderr
    assert "| appb install" in done.stdout
    tables = {table["name"]: table for table in json.loads(found.read_text())["tables"]}
    names = {row["name"] for row in tables["install"]["rows"]}
    assert names == {"appb install", "tar --zstd -x"}
    kinds = {row["name"]: row for row in tables["upgrade-disk"]["rows"]}
    assert kinds["what changed (manifests)"]["bytes"] == len("after")
    assert kinds["contents of files"]["bytes"] == len("after")
    (fetched,) = tables["delta"]["rows"]
    assert fetched["name"] == "appb upgrade"
    assert fetched["fetched_bytes"] > 0
    ElementTree.parse(plot)
    assert str(work) not in Path("/proc/mounts").read_text()
    assert not list(work.glob("disk*"))


@pytest.mark.root
@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: it makes file systems and nodes")
def test_services_of_a_small_node_are_measured(tmp_path: Path) -> None:
    """A switch under load fails no request, a bad release reverts; a copy of each file is more."""
    found = tmp_path / "found.json"
    done = _bench(
        *("load", "density", "--keeper", "embedded", "--rounds", "0", "--services", "2"),
        *("--peers", "none", "--workdir", tmp_path / "work", "--json", found),
    )
    assert done.returncode == 0, done.stderr
    load, density = json.loads(found.read_text())["tables"]
    assert [(row["changes"], row["failed"]) for row in load["rows"]] == [(2, 0), (2, 0), (1, 0)]
    assert all(row["requests"] > 0 for row in load["rows"])
    shared, copied = density["rows"]
    assert 0 < shared["services_bytes"] < copied["services_bytes"]


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: it makes file systems and nodes")
def test_apps_of_a_small_node_are_measured(module: Any, tmp_path: Path) -> None:
    """Apps together take less than each alone, on disk and in memory; a second release adds."""
    plane, work, found = tmp_path / "plane", tmp_path / "work", tmp_path / "found.json"
    for each in (plane, work):
        each.mkdir()
    for name, release in (("one", 1), ("one", 2), ("other", 1)):
        _make_app(module, plane, work, name, release)
    done = _bench(
        *("node", "--control-plane", plane, "--keeper", "embedded", "--rounds", "1"),
        *("--peers", "dpkg", "--workdir", work, "--json", found),
    )
    assert done.returncode == 0, done.stderr
    install, disk, services = json.loads(found.read_text())["tables"]
    tools = {"appb install", "tar --zstd -x", "dpkg -i"}
    assert {row["name"] for row in install["rows"]} == tools
    taken = {row["name"]: row for row in disk["rows"]}
    alone = taken.pop("appb install, each app alone")
    assert taken.keys() == tools
    assert 0 < taken["appb install"]["added_inodes"] < alone["added_inodes"]
    assert 0 < taken["appb install"]["second_bytes"] < taken["appb install"]["added_bytes"]
    shared, copied = services["rows"]
    assert 0 < shared["services_bytes"] < copied["services_bytes"]
    assert not [note for note in services["notes"] if note.startswith("not measured")]


def _make_app(module: Any, directory: Path, work: Path, name: str, release: int) -> None:
    """Write a bundle of a service that waits."""
    programs = module("programs")
    program = programs.with_libraries("/bin/sleep") | programs.mount_points(name)
    module("bundles").write_bundle(
        directory / f"{name}-{release}.bundle",
        name=name,
        version=f"{release}.0",
        release=release,
        contents=program | {"version": f"{name} {release}".encode()},
        sign=module("signing").signer(work),
        services=(Service(name=name, argv=("/bin/sleep", "infinity")),),
    )


def test_unknown_option_is_a_usage_error() -> None:
    """An option that does not exist ends with exit code 2, before anything is made."""
    assert _bench("--no-such-option").returncode == 2


def test_hanging_child_is_killed(module: Any) -> None:
    """A child beyond its time limit is killed, and the error says so."""
    measure = module("measure")
    start = time.monotonic()
    with pytest.raises(measure.ChildFailed, match="time limit"):
        measure.run([measure.command("sleep", "60")], time_limit_s=0.2)
    assert time.monotonic() - start < 30


def test_failure_shows_last_words(module: Any) -> None:
    """A child's failure carries its exit code and what it said last."""
    measure = module("measure")
    with pytest.raises(measure.ChildFailed, match=r"(?s)exit 3.*no such luck"):
        measure.run([measure.command("sh", "-c", "echo no such luck >&2; exit 3")])


def test_memory_of_all_processes_is_added(module: Any) -> None:
    """Two processes that each hold 40 MB of their own count as 80, the largest as 40."""
    measure = module("measure")
    program = (
        "import os, time; fork = os.fork(); held = b'x' * 40_000_000; time.sleep(0.5);"
        " fork and os.wait()"
    )
    usage = measure.run([measure.command(sys.executable, "-c", program)], sample_memory=True)
    assert 80e6 < usage.peak_pss_bytes < 140e6
    assert 40e6 < usage.peak_rss_bytes < 70e6


def test_written_tables_are_read_back(module: Any, tmp_path: Path) -> None:
    """What --json wrote, --results shows alike."""
    results = module("results")
    table = results.Table(
        name="install",
        title="Install",
        columns=(results.Column("name", "Tool"), results.Column("seconds", "seconds", "s")),
        rows=[{"name": "appb install", "seconds": 1.234}],
        notes=["warm"],
    )
    results.write_json(tmp_path / "found.json", {"cores": 2}, [table])
    again = results.read_json(tmp_path / "found.json")
    assert results.markdown(again) == results.markdown([table])
    assert "| appb install |    1.23 |" in results.markdown(again)


def test_plot_needs_something_to_draw(module: Any, tmp_path: Path) -> None:
    """Without a timed case there is no plot, and no empty file."""
    plot = module("plot")
    with pytest.raises(ValueError, match="nothing to draw"):
        plot.draw(tmp_path / "plot.svg", [])
    assert not (tmp_path / "plot.svg").exists()


class _Moody(http.server.BaseHTTPRequestHandler):
    """Answers well, with an error, and not at all, in turn; counts, and says when it was enough."""

    protocol_version = "HTTP/1.1"
    numbers = itertools.count()
    enough = threading.Event()

    def do_GET(self) -> None:
        number = next(self.numbers)
        if number > 50:
            self.enough.set()
        if number % 3 == 2:
            self.close_connection = True
            return
        self.send_response(500 if number % 3 else 200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


def test_failed_requests_are_counted(module: Any) -> None:
    """An answer of 500, and a connection that ends without one, are failures of their own."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Moody) as server:
        threading.Thread(target=server.serve_forever).start()
        found = module("ask").ask(f"http://127.0.0.1:{server.server_port}/", 4, _Moody.enough)
        server.shutdown()
    errors = found["errors"]
    wrong, silent = errors.pop("ValueError: answered 500"), sum(errors.values())
    answered = found["requests"] - found["failed"]
    assert found["failed"] == wrong + silent
    assert {answered, wrong, silent} <= {*range(15, 25)}


def test_server_that_is_gone_for_a_while_shows(module: Any, tmp_path: Path) -> None:
    """Ending the server and starting another fails requests; leaving it alone fails none."""
    replacing, case, webserver = map(module, ("replacing", "case_load", "webserver"))
    nodes, load = module("nodes"), module("load")
    port = webserver.free_port()
    url = f"http://127.0.0.1:{port}/"
    program = webserver.put(tmp_path, "1.0")

    def start() -> subprocess.Popen[bytes]:
        environment = {**os.environ, "PORT": str(port)}
        return subprocess.Popen([sys.executable, "-I", program], env=environment)

    def replace() -> None:
        running.append(start_after(running.pop()))

    def start_after(one: subprocess.Popen[bytes]) -> subprocess.Popen[bytes]:
        one.terminate()
        one.wait(timeout=30)
        again = start()
        load.await_answers(nodes.here(), url)
        return again

    running = [start()]
    try:
        rows = [
            case.under_load("a server", replacing.Served(nodes.here(), url, steps), 1)
            for steps in ([replace], [lambda: None])
        ]
    finally:
        running.pop().kill()
    replaced, left_alone = rows
    assert replaced["failed"] > 0
    assert "ConnectionRefusedError" in replaced["errors"]
    assert left_alone["failed"] == 0
    assert left_alone["requests"] > 0
