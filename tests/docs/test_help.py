"""The examples in --help: each is a command line that appb takes, and does what it says."""

import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from appbundle.bundle.settings import Setting
from appbundle.cli.main import COMMANDS, appb
from appbundle.layout import Layout
from tests.crash.support import KEY_FILE, make_bundle, new_node
from tests.docs.place import Place
from tests.repository.publisher import use

_BUNDLES = (
    ("nova-api", "33.0.2", 1),
    ("nova-api", "34.0.0", 2),
    ("keystone", "30.0.0", 1),
    ("glance", "33.0.0", 1),
)
_SETTINGS = (
    Setting(name="password", secret=True),
    Setting(name="port", type="port", default="8774"),
    Setting(name="workers", type="integer", default="2"),
)
# What the examples' node has seen, in the order of its generations.
_HISTORY = (
    "appb install keystone-30.0.0.bundle",
    "appb install nova-api-33.0.2.bundle",
    "appb install nova-api-34.0.0.bundle",
    "appb switch nova-api@33.0.2",
    "appb publish nova-api-33.0.2.bundle --repo www --key team.key",
)
_PUBLISHED = (
    "appb publish keystone-30.0.0.bundle nova-api-33.0.2.bundle --repo repo --key team.key",
    "appb publish glance-33.0.0.bundle --repo repo --key team.key --channel beta",
)
_NEEDS_NETWORK = "appb build bundles/nova-api"
_SERVING = re.compile(
    r"appb (?:status|start|stop|restart|audit|logs)\b|.* --(?:confirm-within|schedule) "
)
"""What needs somebody who keeps services: tests/services/test_documented.py runs it."""


def commands() -> Iterator[tuple[str, click.Command]]:
    """Every command and subcommand with its name."""
    context = click.Context(appb, info_name="appb")
    for name in COMMANDS:
        command = appb.get_command(context, name)
        assert command is not None
        yield name, command
        if isinstance(command, click.Group):
            yield from ((f"{name} {inner}", each) for inner, each in command.commands.items())


def examples() -> list[str]:
    """The examples of all commands, continued lines joined."""
    found = []
    for _, command in commands():
        _, _, text = (command.help or "").partition("Examples:\n")
        text = text.partition("\n\n")[0].replace("\\\n", " ")
        found += [" ".join(line.split()) for line in text.splitlines() if line.strip()]
    return found


def is_serving(example: str) -> bool:
    """Whether an example is about services that run."""
    return _SERVING.match(example) is not None


def calls(example: str) -> list[list[str]]:
    """The calls of appb in a shell command line, as argument lists without `appb`."""
    parts = [shlex.split(part, comments=True) for part in re.split(r"[|>]", example)]
    return [part[1:] for part in parts if part and part[0] == "appb"]


def test_there_are_examples() -> None:
    """The help of the commands that take more than a name shows how."""
    assert len(examples()) > 10
    assert all(calls(example) for example in examples())


@pytest.mark.parametrize("example", examples())
def test_example_is_understood(example: str) -> None:
    """Commands and options of an example exist."""
    for words in calls(example):
        command, context = click.Command("none"), click.Context(appb, info_name="appb")
        within: click.Group = appb
        while words:
            name, *words = words
            found = within.get_command(context, name)
            assert found is not None, name
            command = found
            if not isinstance(found, click.Group):
                break
            within = found
        command.make_context(command.name, list(words))


@pytest.fixture(scope="module")
def furnished(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """A node and a directory as the examples assume them; tiny bundles with their names."""
    place = Place(tmp_path_factory.mktemp("help") / "place")
    place.make()
    new_node(place.node)
    for name, version, release in _BUNDLES:
        make_bundle(place.work, name, version, release=release, settings=_SETTINGS)
    (place.work / "team.key").write_bytes(KEY_FILE)
    place.run(*_HISTORY, *_PUBLISHED)
    use(Layout(place.node), place.work / "repo")
    # What is installed already comes from there now.
    place.run("appb install nova-api@33.0.2")
    (place.work / "usb").mkdir()
    (place.work / "node.toml").write_text("[apps]\nnova-api = { settings = { port = 8775 } }\n")
    (place.work / "SIGNATURE").touch()
    (place.work / "FILE").write_text("open sesame\n")
    (place.node / "etc/bash_completion.d").mkdir()
    place.run("appb info --signature 1 nova-api > SIGNATURE")
    return place


@pytest.mark.parametrize(
    "example",
    [each for each in examples() if not each.startswith(_NEEDS_NETWORK) and not is_serving(each)],
)
def test_example_works(example: str, furnished: Place, tmp_path: Path) -> None:
    """An example does its work where what it names exists; /etc is the node's."""
    place = Place(tmp_path / "place")
    shutil.copytree(furnished.base, place.base, symlinks=True)
    place.run(example.replace("/etc/", f"{place.node}/etc/"))
