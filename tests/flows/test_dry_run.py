"""A dry run changes nothing, and says exactly what the run then does."""

from collections.abc import Callable
from pathlib import Path

import pytest

from appbundle.flows import switch as switching
from appbundle.names import AppName
from tests.bundles import picture
from tests.crash.support import DAY_S, NOW, Node, make_bundle, run_cli

Bundle = Callable[[str, int], Path]

COMMANDS = [
    "install FILES/hello-5.0.bundle",
    "install FILES/hello-5.0.bundle FILES/third-1.0.bundle FILES/directory-1.0",
    "install --no-switch FILES/hello-5.0.bundle",
    "install --allow-downgrade FILES/hello-1.0.bundle",
    "install FILES/hello-4.0.bundle",
    "install FILES/hello-2.0.bundle",
    "switch hello@1.0 other@1.0",
    "switch hello@2.0",
    "switch --previous",
    "switch --previous hello",
    "switch --to 1",
    "switch --to 2",
    "remove hello@3.0",
    "remove hello@1.0",
    "remove hello",
    "remove hello --purge",
    "remove other",
    "gc --keep 0 --older-than 0",
    "gc --keep 1 --older-than 36h",
    "gc",
]


@pytest.fixture
def files(memory: Path, bundle: Bundle) -> Path:
    """A directory with bundles, one of them as a directory."""
    files = memory / "files"
    files.mkdir()
    for name, number in (*(("hello", n) for n in range(1, 6)), ("third", 1)):
        made = bundle(name, number)
        (files / made.name).symlink_to(made)
    make_bundle(files, "directory", "1.0", as_directory=True)
    return files


@pytest.fixture
def used(node: Node, bundle: Bundle) -> Node:
    """A node with some history: hello 1.0 to 4.0, of which 2.0 is current and 4.0 never was."""
    for number in (1, 2, 3, 4):
        now = NOW - (4 - number) * DAY_S
        node.install(bundle("hello", number), now=now, switch_to=number < 4)
    node.install(bundle("other", 1))
    switching.switch_to(node.context(), 2)
    (node.layout.state(AppName("hello")) / "data").mkdir(parents=True)
    orphan = node.layout.objects / "00" / ("0" * 62)
    orphan.write_bytes(b"nobody has this")
    return node


@pytest.mark.parametrize("command", COMMANDS)
def test_dry_run_is_the_run_without_its_effect(used: Node, files: Path, command: str) -> None:
    """The document of a dry run is that of the run, and nothing on disk has changed in between."""
    words = command.replace("FILES", str(files)).split()
    before = picture(used.root)
    planned = run_cli(used, "--json", *words, "--dry-run")
    assert picture(used.root) == before
    done = run_cli(used, "--json", *words)
    assert (planned.status, done.status) == (0, 0), done.stdout
    expected = done.document
    if "outcome" in expected:
        assert planned.document["outcome"] == "planned"
        expected["outcome"] = "planned"
    if "dry_run" in expected:
        expected["dry_run"] = True
    assert planned.document == expected
    assert used.problems() == {".appb/objects/00/" + "0" * 62: "damaged pool object"} or (
        command.startswith("gc") and used.problems() == {}
    )


def test_dry_run_leaves_a_fresh_node_fresh(node: Node, bundle: Bundle) -> None:
    """Looking at what an installation would do does not even make /apps."""
    assert run_cli(node, "install", "-n", str(bundle("hello", 1))).status == 0
    assert [each.name for each in node.root.iterdir()] == ["etc"]


@pytest.mark.parametrize("command", ["install -n FILES/hello-1.0.bundle", "remove -n hello@2.0"])
def test_dry_run_refuses_what_the_run_would(used: Node, files: Path, command: str) -> None:
    """What would be refused is refused before, with the same exit code and sentence."""
    words = command.replace("FILES", str(files)).split()
    planned = run_cli(used, *words)
    done = run_cli(used, *(word for word in words if word != "-n"))
    assert planned.status == done.status != 0
    assert planned.stderr == done.stderr


def test_dry_run_needs_no_lock(used: Node, bundle: Bundle) -> None:
    """While another appb changes the node, one may still ask what would happen."""
    from appbundle.system.lock import lock

    with lock(used.layout.lock, purpose="test", timeout_s=0):
        for words in (["switch", "--previous"], ["gc"], ["remove", "other"]):
            assert run_cli(used, "--lock-timeout", "0", *words, "-n").status == 0
            assert run_cli(used, "--lock-timeout", "0", *words).status == 11
