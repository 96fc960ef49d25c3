"""Images that are prepared below `--root`: what was installed there runs when they have booted."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from appbundle.bundle.settings import Setting
from appbundle.bundle.tasks import Task
from tests.crash.support import KEY
from tests.services import apps, trees
from tests.services.apps import web
from tests.services.booted import Said, booted, why_not
from tests.services.conftest import Fleet

pytestmark = [pytest.mark.root, pytest.mark.slow]

WORKER = web("worker", sockets=(), health=None, change="restart", entitlements=("listen",))
MIGRATE = Task(when="migrate", argv=("/bin/server", "--write", "one"))


def appb(root: Path, *arguments: str, status: int = 0) -> Said:
    """Run this machine's appb on an image."""
    argv = [sys.executable, "-m", "appbundle", f"--root={root}", "--json", *arguments]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == status, done
    return Said(done.returncode, done.stdout, done.stderr)


def trust(root: Path, place: Path) -> None:
    """Have an image trust the tests' key."""
    key = place / "team.pub"
    key.write_text(f"{KEY.public.line}\n")
    appb(root, "trust", "add", str(key))


@pytest.mark.parametrize("suite", ["", pytest.param("trixie", marks=pytest.mark.network)])
def test_booted_image_runs_what_was_installed(tmp_path: Path, program: Path, suite: str) -> None:
    """Services start by themselves, as their user; one that a later release lacks does not."""
    if reason := why_not():
        pytest.skip(reason)
    title = Setting(name="title", default="plain")
    first = apps.bundle(tmp_path, program, web(), WORKER)
    argv = ("/bin/server", "--user", "{{ title }}")
    second = apps.bundle(
        tmp_path, program, web(argv=argv), version="2.0", release=2, settings=(title,)
    )

    def prepare(root: Path) -> None:
        trust(root, tmp_path)
        appb(root, "install", str(first))
        appb(root, "install", str(second))
        assert json.loads(appb(root, "history").stdout)["current"] == 2

    tree = trees.trixie() if suite else Path("/")
    python = "/usr/bin/python3" if suite else sys.executable
    with booted(tree=tree, python=python, prepare=prepare) as node:
        fleet = Fleet(node, program)
        assert fleet.get() == "appb-web appb-web"
        assert node.show("web.worker.service", "LoadState") == "not-found"
        assert node.run("ls", "/apps/.appb/pending.json").status != 0
        node.appb("switch", "--previous")
        assert fleet.get() == "web 1.0"
        assert node.systemctl("is-active", "web.worker.service") == "active"


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """The least that is an image with systemd."""
    root = tmp_path / "image"
    (root / "usr/lib/systemd").mkdir(parents=True)
    (root / "usr/lib/systemd/systemd").touch()
    trust(root, tmp_path)
    return root


def test_tasks_are_for_the_node_itself(image: Path, tmp_path: Path, program: Path) -> None:
    """An image cannot migrate: nothing becomes current, and the hint says what can be done."""
    made = apps.bundle(tmp_path, program, tasks=(MIGRATE,))
    said = appb(image, "install", str(made), status=1)
    assert "appb install --no-switch" in said.document["error"]["hint"]
    assert json.loads(appb(image, "history").stdout)["current"] is None
    assert not list(image.glob("usr/local/lib/systemd/system/*"))
    appb(image, "install", "--no-switch", str(made))


def test_image_of_a_dead_node_is_left_alone(image: Path, tmp_path: Path, program: Path) -> None:
    """What a node was about to do to running services is not forgotten in its image."""
    appb(image, "install", str(apps.bundle(tmp_path, program)))
    left = {"before": 1, "after": 1, "running": ["web/web"]}
    (image / "apps/.appb/pending.json").write_text(json.dumps(left))
    second = apps.bundle(tmp_path, program, version="2.0", release=2)
    said = appb(image, "install", str(second), status=1)
    assert "under way" in said.document["error"]["what"]
    assert json.loads((image / "apps/.appb/pending.json").read_text()) == left


def test_node_without_units_has_none(image: Path, tmp_path: Path, program: Path) -> None:
    """Where node.toml says that nobody keeps services, an image gets no units."""
    (image / "etc/appbundle/node.toml").write_text('[services]\nmanager = "none"\n')
    appb(image, "install", str(apps.bundle(tmp_path, program)))
    assert not list(image.glob("usr/local/lib/systemd/system/*"))
