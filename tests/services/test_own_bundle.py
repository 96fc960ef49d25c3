"""appb's own bundle: on a machine without Python, and where systemd runs it."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import appbundle
from appbundle.bundle.services import Health
from appbundle.bundle.settings import Setting, Template
from tests.crash.support import KEY, KEY_FILE
from tests.docs import console
from tests.flows.test_real_builds import build
from tests.services import apps
from tests.services.booted import REPOSITORY, Said, wait_until, why_not
from tests.services.conftest import Fleet

pytestmark = [pytest.mark.root, pytest.mark.network, pytest.mark.slow]

OLD, NEW = appbundle.__version__, "9.9.9"
APPB = "/apps/appb/current/appb"
MACHINE = """
name = "machine"
[[sources]]
kind = "host"
programs = [
    "/bin/sh", "/bin/bash", "/bin/ln", "/bin/ls", "/bin/mkdir", "/bin/readlink", "/bin/rm",
    "/bin/tar", "/usr/bin/sha256sum", "/usr/bin/zstd", "/usr/sbin/useradd",
]
[releases."1"]
release = 1
"""
GREETING: dict[str, Any] = {
    "files": {"share/greeting.in": "{{ greeting }}\n", "share/greeting": "\n"},
    "settings": (Setting(name="greeting", default="hello"),),
    "templates": (Template(source="share/greeting.in", target="share/greeting"),),
}
ENVIRONMENT = {"PATH": "/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}
SUPERVISED = apps.web(
    health=Health(command=("/bin/server", "--write", "healthy"), grace_s=5), change="restart"
)
INIT = "echo up; read -r line"
"""All that runs on the machine by itself; it ends with its standard input."""


@dataclass(frozen=True, slots=True)
class Machine:
    """A machine in a container that has a shell and a few ordinary tools.

    Args:
        root: Its files, from here.
        pid: Of what runs in it.
    """

    root: Path
    pid: int

    @property
    def prefix(self) -> tuple[str, ...]:
        """What starts a program in it, in the administrator's home, before its words."""
        return ("nsenter", "-t", str(self.pid), "-a", "--wdns=/root", "--")

    def run(self, *argv: str, check: bool = True) -> Said:
        """Run a program of its own."""
        done = subprocess.run(
            [*self.prefix, *argv], capture_output=True, env=ENVIRONMENT, text=True, timeout=120
        )
        said = Said(done.returncode, done.stdout, done.stderr)
        assert not check or said.status == 0, f"{argv}: {said}"
        return said


@pytest.fixture(scope="module")
def releases(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Signed bundles of appb as it is here, and of one that has another version."""
    if why_not() or not shutil.which("mmdebstrap"):
        pytest.skip(why_not() or "needs mmdebstrap")
    place = tmp_path_factory.mktemp("own")
    (place / "key").write_bytes(KEY_FILE)
    (place / "key").chmod(0o600)
    for part in ("bundles/appb", "bundles/base", "appbundle"):
        shutil.copytree(REPOSITORY / part, place / part, symlinks=True)
    version = place / "appbundle/__init__.py"
    version.write_text(version.read_text().replace(OLD, NEW))
    recipe = place / "bundles/appb/recipe.toml"
    recipe.write_text(f'{recipe.read_text()}\n[releases."{NEW}"]\nrelease = 1000000\n')
    for kind in ("lock", "footprint"):
        shutil.copy(recipe.with_name(f"{OLD}.{kind}"), recipe.with_name(f"{NEW}.{kind}"))
    found = []
    for version_text, source in ((OLD, REPOSITORY / "bundles/appb"), (NEW, recipe.parent)):
        target = place / f"appb-{version_text}.bundle"
        more = ("--level", "1", "--release", version_text, "--key", str(place / "key"))
        done = build(source, target, *more, cache=place / "cache")
        assert done.returncode == 0, done.stdout
        found.append(target)
    return found[0], found[1]


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    """A machine without Python."""
    recipe, root = tmp_path / "recipe", tmp_path / "root"
    recipe.mkdir()
    (recipe / "recipe.toml").write_text(MACHINE)
    done = build(recipe, tmp_path / "unused", "--dir", str(root), cache=tmp_path / "cache")
    assert done.returncode == 0, done.stdout
    for name in ("os-release", "passwd", "group", "shadow"):
        (root / "etc" / name).write_text("root:x:0:0:::\n" if name != "os-release" else "")
    (root / "root").mkdir()
    (root / "usr/local/bin").mkdir(parents=True)
    (root / "etc/appbundle").mkdir()
    (root / "etc/appbundle/allowed_signers").write_text(f"* {KEY.public.line}\n")
    (root / "root/team.key.pub").write_text(f"{KEY.public.line}\n")
    argv = ["systemd-nspawn", f"--directory={root}", "--register=no", "--keep-unit", "--as-pid2"]
    argv += ["--private-network", "--console=pipe", "--quiet", "/bin/sh", "-c", INIT]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as container:
        assert container.stdin is not None
        assert container.stdout is not None
        try:
            assert container.stdout.readline() == b"up\n"
            children = Path(f"/proc/{container.pid}/task/{container.pid}/children")
            yield Machine(root, int(children.read_text().split()[0]))
        finally:
            container.kill()


def release(said: Said) -> str:
    """What `appb --version` gives."""
    return said.stdout.removeprefix("appb ").strip()


@pytest.mark.parametrize(("page", "version"), [("README.md", OLD), ("docs/own-bundle.md", NEW)])
def test_page_brings_appb_to_a_machine_without_python(
    machine: Machine, releases: tuple[Path, Path], page: str, version: str
) -> None:
    """As the page has it: unpacked by tar, appb installs its own bundle and needs that tree no
    more; it installs and runs another app, upgrades itself and goes back."""
    home = machine.root / "root"
    for file, name in zip(releases, ("appb-0.1.0.bundle", "appb-0.2.0.bundle"), strict=True):
        shutil.copy(file, home / name)
    digest = hashlib.sha256(releases[0].read_bytes()).hexdigest()
    (home / "SHA256SUMS").write_text(f"{digest}  appb-0.1.0.bundle\n")
    key = releases[0].with_name("key")
    more = ("--release", "1.0", "--key", str(key))
    hello = home / "hello-1.0.bundle"
    assert build(REPOSITORY / "bundles/hello", hello, *more, cache=key.parent).returncode == 0
    marked = [
        each for each in console.blocks((REPOSITORY / page).read_text()) if each.mark == "machine"
    ]
    commands = [command for block in marked for command in console.commands(block)]
    outcomes = console.run(
        commands, directory=Path("/"), environment=ENVIRONMENT, within=machine.prefix
    )
    wrong = [
        f"line {each.command.line}: $ {each.command.text}\n{each.output}(status {each.status})"
        for each, following in zip(outcomes, [*commands[1:], None], strict=True)
        if not console.agrees(each) or not console.succeeded(each, following)
    ]
    assert not wrong, "\n".join(wrong)
    assert release(machine.run("appb", "--version")) == version


def test_supervised_services_stay_while_appb_comes_and_goes(
    machine: Machine, releases: tuple[Path, Path], program: Path
) -> None:
    """With its own supervisor appb keeps a service with settings and health. While it is upgraded
    and goes back, what runs of it is whole, and what starts is whichever appb is current."""
    web = apps.bundle(machine.root / "root", program, SUPERVISED, **GREETING)
    for file in releases:
        shutil.copy(file, machine.root / "root")
    machine.run("tar", "-xf", releases[0].name)
    machine.run("./appb", "install", releases[0].name)
    machine.run(APPB, "install", web.name)
    machine.run(APPB, "set", "web", "greeting=good evening")
    assert running(machine) == {"web/web": "running"}

    machine.run(APPB, "install", releases[1].name)
    assert release(machine.run(APPB, "--version")) == NEW
    # The supervisor has outlived that.
    assert "in use" in machine.run(APPB, "remove", f"appb@{OLD}", check=False).stderr
    script = Path(f"/proc/{machine.pid}/root/run/appb/supervisor/web.web.run")
    assert "exec /apps/appb/current/usr/bin/appb " in script.read_text()
    machine.run(APPB, "restart", "web")

    machine.run(APPB, "switch", "--previous")
    assert release(machine.run(APPB, "--version")) == OLD
    machine.run(APPB, "restart", "web")
    assert running(machine) == {"web/web": "running"}
    # It has written nothing into a version, no byte code either.
    machine.run(APPB, "verify")
    assert "in use" in machine.run(APPB, "remove", "appb", check=False).stderr


def running(machine: Machine) -> dict[str, str]:
    """The states of all services."""
    found = machine.run(APPB, "--json", "status").document["services"]
    return {f"{each['app']}/{each['service']}": each["state"] for each in found}


@pytest.fixture
def own(fleet: Fleet, releases: tuple[Path, Path]) -> Iterator[list[str]]:
    """Paths of appb's bundles on the booted node, from which they go again."""
    for file in releases:
        shutil.copy(file, fleet.node.scratch)
    yield [str(fleet.node.scratch / file.name) for file in releases]
    fleet.node.appb("remove", "web")
    fleet.node.appb("remove", "appb")


def test_units_start_whichever_appb_is_current(fleet: Fleet, own: list[str]) -> None:
    """What systemd starts of appb, now and at the next boot, names no version of it; a switch that
    nobody confirms is taken back by it, with the service's health asked over HTTP."""
    node = fleet.node
    node.appb("install", own[0])
    node.run(APPB, "install", str(fleet.bundle(**GREETING)), check=True)
    for change in (("install", own[1]), ("switch", "--to", "2")):
        node.run(APPB, *change, check=True)
        node.run(APPB, "upgrade", "--schedule", "Sat 02:00", check=True)
        for unit in ("appb-resume.service", "appb-upgrade.service"):
            line = 'ExecStart="/apps/appb/current/usr/bin/appb" "--root=/" '
            assert line in node.systemctl("cat", unit), change
    second = fleet.bundle(version="2.0", release=2, **GREETING)
    node.run(APPB, "install", "--no-switch", str(second), check=True)
    node.run(APPB, "switch", "web@2.0", "--confirm-within", "1s", check=True)
    current = ("readlink", "-f", "/apps/web/current")
    assert wait_until(lambda: node.run(*current).stdout == "/apps/web/1.0\n")
