"""Commands that apps export: there with their generation, all at once, and no two of one name."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from appbundle.errors import ConflictError
from appbundle.flows import describe
from appbundle.flows import install as installing
from appbundle.flows import switch as switching
from appbundle.flows.describe import VersionDiff
from appbundle.names import OWN
from appbundle.services.own import OWN_PROGRAM, lasting_command
from appbundle.store import generations
from tests.bundles import picture
from tests.crash.support import Node, hello, make_bundle, run_cli

PROGRAM = "/bin/hello"

Make = Callable[..., Path]


@pytest.fixture
def make(memory: Path) -> Make:
    """Give bundles of an app that exports commands of these names."""

    def made(name: str, number: int, *names: str) -> Path:
        commands = {each: (PROGRAM, each) for each in sorted(names)}
        tree = hello(f"{name} {number}")
        return make_bundle(
            memory, name, f"{number}.0", release=number, tree=tree, commands=commands
        )

    return made


@pytest.fixture
def two(node: Node, make: Make) -> Node:
    """A node whose app had the commands greet and old, and now has greet and new."""
    node.install(make("hello", 1, "greet", "old"))
    node.install(make("hello", 2, "greet", "new"))
    return node


def found(node: Node) -> set[str]:
    """The commands that can be called."""
    home = node.layout.commands
    return set(os.listdir(home)) if home.exists() else set()


def text(node: Node, name: str) -> str:
    """What a command is."""
    return (node.layout.commands / name).read_text()


def test_every_command_has_a_launcher(two: Node, make: Make) -> None:
    """Of all apps together; anybody may read and run them, and they call what was signed."""
    two.install(make("other", 1, "see"))
    assert found(two) == {"greet", "new", "see"}
    assert {(two.layout.commands / name).stat().st_mode for name in found(two)} == {0o100755}
    assert text(two, "see").endswith(f' other -- {PROGRAM} see "$@"\n')
    assert two.problems() == {}


def test_switch_changes_all_commands(two: Node) -> None:
    """Forward and back, with the one link that is switched, while /apps/bin stays."""
    link = two.layout.commands.lstat()
    assert found(two) == {"greet", "new"}
    two.previous()
    assert found(two) == {"greet", "old"}
    two.switch("hello@2.0")
    assert found(two) == {"greet", "new"}
    after = two.layout.commands.lstat()
    assert (after.st_ino, after.st_ctime_ns) == (link.st_ino, link.st_ctime_ns)


def test_command_is_of_its_generation(two: Node, make: Make) -> None:
    """Whoever has found a launcher gets what was current then, though a switch comes between."""
    greet = text(two, "greet")
    two.install(make("hello", 3, "greet"))
    assert "--generation 2 hello " in greet
    assert "--generation 3 hello " in text(two, "greet")


def test_generations_before_have_no_commands(node: Node, make: Make) -> None:
    """A node that never had any looks as ever; where there are none, the link leads nowhere."""
    node.install(make("hello", 1))
    assert not os.path.lexists(node.layout.commands)
    assert not (node.layout.current_generation / "bin").exists()
    node.install(make("hello", 2, "greet"))
    node.previous()
    assert found(node) == set()
    assert os.path.islink(node.layout.commands)
    assert node.problems() == {}
    switching.switch_to(node.context(), 2)
    assert found(node) == {"greet"}


def test_commands_go_with_their_app(two: Node, make: Make) -> None:
    """A removed app's commands are gone, others stay, and a collection changes none."""
    two.install(make("other", 1, "see"))
    two.remove("hello")
    assert found(two) == {"see"}
    two.gc()
    assert found(two) == {"see"}
    two.remove("other")
    assert found(two) == set()
    assert two.problems() == {}


def test_same_command_of_two_apps_is_refused(two: Node, make: Make) -> None:
    """Before anything changes, whatever brings them together; either alone is welcome."""
    other = make("other", 1, "greet")
    before = picture(two.root)
    for act in (installing.install, installing.plan):
        with pytest.raises(ConflictError, match="hello and other both have a command greet") as e:
            act(two.context(), [str(other)])
        assert (e.value.kept, "appb remove hello" in e.value.hint) == ("nothing was changed", True)
        assert picture(two.root) == before
    two.install(other, switch_to=False)
    before = picture(two.root)
    with pytest.raises(ConflictError, match="both have a command greet"):
        two.switch("other@1.0")
    assert picture(two.root) == before
    two.remove("hello")
    two.switch("other@1.0")
    assert found(two) == {"greet"}


def test_something_else_in_the_place_is_refused(node: Node, make: Make) -> None:
    """A directory that somebody has made is neither used nor replaced."""
    node.install(make("hello", 1))
    node.layout.commands.mkdir()
    before = picture(node.root)
    with pytest.raises(ConflictError, match="something else"):
        node.install(make("hello", 2, "greet"))
    assert picture(node.root) == before


def test_link_that_leads_elsewhere_is_put_right(two: Node, make: Make) -> None:
    """With the next generation that has commands."""
    two.layout.commands.unlink()
    two.layout.commands.symlink_to("/usr/bin")
    assert list(two.problems()) == ["bin"]
    two.install(make("hello", 3, "greet"))
    assert found(two) == {"greet"}
    assert two.problems() == {}


def test_changed_launchers_are_named(two: Node) -> None:
    """Verifying looks at each, at its mode, and at what is there beside them."""
    home = two.layout.commands.resolve()
    (home / "greet").chmod(0o775)
    (home / "new").write_text("#!/bin/sh\n")
    shutil.copy(home / "greet", home / "old")
    assert two.problems() == {
        ".appb/generations/2/bin/greet": "mode 0775 instead of 0755",
        ".appb/generations/2/bin/new": "changed",
        ".appb/generations/2/bin/old": "extra",
    }
    shutil.rmtree(home)
    home.mkdir()
    (home / "new").symlink_to("/bin/true")
    assert set(two.problems().values()) == {"missing", "changed"}


def test_new_commands_are_said(node: Node, make: Make) -> None:
    """Before they are there, by name and where; what was there before is no news."""
    first, second = make("hello", 1, "greet", "old"), make("hello", 2, "greet", "new")
    assert node.install(first).switched.commands == ("greet", "old")
    planned = run_cli(node, "install", "--dry-run", str(second))
    assert "\n  commands: new (in /apps/bin)" in planned.stdout
    done = run_cli(node, "install", str(second))
    assert done.stderr.splitlines() == ["hello: 1.0 → 2.0", "commands: new (in /apps/bin)"]
    assert json.loads(run_cli(node, "--json", "switch", "--previous").stdout)["commands"] == ["old"]


def test_commands_are_shown_and_compared(two: Node) -> None:
    """`info` names them, and `diff` those that differ."""
    shown = run_cli(two, "info", "hello").stdout.splitlines()
    assert [line.split() for line in shown if line.startswith("command ")] == [
        ["command", "greet", PROGRAM, "greet"],
        ["command", "new", PROGRAM, "new"],
    ]
    differs = describe.diff(two.context(), "hello@1.0", "hello@2.0")
    assert isinstance(differs, VersionDiff)
    assert {each for each in differs.fields if each[0].startswith("command")} == {
        ("command old", f"{PROGRAM} old", "-"),
        ("command new", "-", f"{PROGRAM} new"),
    }


def test_appb_of_the_generation_is_started(node: Node, make: Make) -> None:
    """If appb is an app beside them, that; else the one that has made the generation."""
    node.install(make("hello", 1, "greet"))
    assert lasting_command(node.layout)[0] in text(node, "greet")
    node.install(make(OWN, 1))
    assert f'exec "$root"/{OWN_PROGRAM} --root ' in text(node, "greet")
    current = generations.current(node.layout)
    assert current is not None
    assert current.appb == [OWN_PROGRAM]
