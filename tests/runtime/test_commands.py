"""Commands as people call them: the launchers of a real node, with real bundles behind them."""

import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from .node import ROOT, argv

pytestmark = pytest.mark.root

REPOSITORY = Path(__file__).resolve().parents[2]
COMMANDS = """
[commands]
copy = ["/bin/cat", "--"]
greet = ["/usr/bin/hello", "--version"]
shell = ["/bin/sh", "-c"]
"""


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A node where hello 1.0 exports commands, and 2.0 none but greet."""
    if not ROOT:
        pytest.skip("needs root")
    place = tmp_path_factory.mktemp("commands")
    root = place / "a node"
    root.mkdir()

    def appb(*words: str) -> None:
        subprocess.run(argv(root, *words), cwd=place, check=True, capture_output=True, timeout=60)

    appb("key", "new", "--no-passphrase", "team.key")
    appb("trust", "add", "team.key.pub", "--for", "hello")
    for version, told in (("1.0", COMMANDS), ("2.0", "[commands]\ngreet = ['/usr/bin/hello']\n")):
        recipe = shutil.copytree(REPOSITORY / "bundles/hello", place / version)
        with (recipe / "recipe.toml").open("a") as file:
            file.write(told)
        appb("build", version, "--release", version, "--key", "team.key")
        appb("install", f"hello-{version}.bundle")
    appb("switch", "--previous")
    return root


def call(node: Path, name: str, *words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """Call a command as its node's administrator does, and with a useless environment."""
    environment = {"PATH": f"{node}/apps/bin:/usr/bin:/bin", "APPB_ROOT": "/nowhere", "NAME": "x"}
    return subprocess.run(
        [node / "apps/bin" / name, *words],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=30,
        cwd="/etc",
        env=environment,
    )


def test_command_runs_confined_with_its_arguments(node: Path) -> None:
    """It is what `appb run` starts, and sees nothing of the caller's but the three streams."""
    assert call(node, "greet").stdout == "hello 1.0: good morning\n"
    said = call(node, "shell", 'pwd; echo "$NAME" "$0" "$1"; ls /etc/shadow', "a  b", "$x").stdout
    assert said == "/var/lib/hello\n a  b $x\n"


def test_streams_and_ends_are_the_callers(node: Path) -> None:
    """What comes in goes through byte by byte; exit codes and signals are the program's."""
    text = "\x00 a text\n" * 10_000
    assert call(node, "copy", stdin=text).stdout == text
    assert call(node, "copy", "/etc/shadow").returncode == 1
    assert call(node, "shell", "exit 7").returncode == 7
    assert call(node, "shell", "kill -TERM $$").returncode == -signal.SIGTERM


def test_launcher_of_another_generation_runs_that(node: Path) -> None:
    """Whoever found a command before a switch has what belongs to it."""
    other = node / "apps/.appb/generations/2/bin/greet"
    assert sorted(each.name for each in other.parent.iterdir()) == ["greet"]
    done = subprocess.run([other, "--version"], capture_output=True, text=True, timeout=30)
    assert done.stdout == "hello 2.0: good evening\n"


def test_node_may_be_moved(node: Path) -> None:
    """As an image is, which is prepared below one root and boots as another."""
    moved = node.with_name("moved")
    node.rename(moved)
    try:
        assert call(moved, "greet").stdout == "hello 1.0: good morning\n"
    finally:
        moved.rename(node)
