"""Completion: scripts that shells accept, names that exist, and silence where there is nothing."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from appbundle.flows import remove as removing
from appbundle.names import parse_ref
from tests.crash.support import Node, argv, run_cli

Bundle = Callable[[str, int], Path]


@pytest.fixture
def used(node: Node, bundle: Bundle) -> Node:
    """A node with two versions of hello, of which one is pinned, and one of another app."""
    for number in (1, 2):
        node.install(bundle("hello", number))
    node.install(bundle("other", 1))
    removing.pin(node.context(), parse_ref("hello@1.0"))
    return node


def complete(words: str, *, root: Path | None = None, word: int | None = None) -> list[str]:
    """What bash would be offered for the last word of a line, as `type,value`."""
    position = len(words.split(" ")) - 1 if word is None else word
    variables = {
        "_APPB_COMPLETE": "bash_complete",
        "COMP_WORDS": words,
        "COMP_CWORD": str(position),
    }
    if root is not None:
        variables["APPB_ROOT"] = str(root)
    done = subprocess.run(
        [sys.executable, "-m", "appbundle"],
        capture_output=True,
        text=True,
        env={"PATH": os.environ["PATH"]} | variables,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.split()


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_script_is_what_the_shell_accepts(node: Node, shell: str) -> None:
    """A script is printed for each shell, and the shell reads it without complaint."""
    script = run_cli(node, "completion", shell).stdout
    assert "_APPB_COMPLETE" in script
    if shutil.which(shell):
        done = subprocess.run([shell, "-n"], input=script, capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("appb sw", ["plain,switch"]),
        ("appb un", ["plain,unpack", "plain,unhold", "plain,unpin", "plain,unset"]),
        ("appb switch --pre", ["plain,--previous"]),
        ("appb trust a", ["plain,add"]),
        ("appb completion z", ["plain,zsh"]),
    ],
)
def test_commands_and_options_are_completed(words: str, expected: list[str]) -> None:
    """Beginnings of commands, options and fixed values are completed without any node."""
    assert complete(words, root=Path("/nowhere")) == expected


HELLO = ["hello@1.0", "hello@2.0"]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("appb switch he", HELLO),
        ("appb switch other@1.0 hello@2", ["hello@2.0"]),
        ("appb switch --previous h", ["hello"]),
        ("appb remove h", ["hello", *HELLO]),
        ("appb pin o", ["other", "other@1.0"]),
        ("appb unpin ", ["hello@1.0"]),
        ("appb run h", ["hello", *HELLO]),
        ("appb verify h", ["hello", *HELLO]),
        ("appb info other@", ["other@1.0"]),
        ("appb diff hello@1.0 hello@", HELLO),
        ("appb remove nothing", []),
    ],
)
def test_installed_names_are_completed(used: Node, words: str, expected: list[str]) -> None:
    """What a command takes of the node's apps and versions is offered, and nothing else."""
    found = complete(words, root=used.root)
    assert [each for each in found if not each.startswith("file,")] == [
        f"plain,{each}" for each in expected
    ]


@pytest.mark.parametrize(
    "words", ["appb verify ./x", "appb info x", "appb diff a b", "appb repair x"]
)
def test_files_are_completed_where_they_serve(used: Node, words: str) -> None:
    """Commands that take a bundle file leave its name to the shell."""
    assert complete(words, root=used.root) == [f"file,{words.split()[-1]}"]


@pytest.mark.parametrize("option", ["--root {}", "--root={}", "-v --root {} --json"])
def test_root_option_is_respected(used: Node, option: str) -> None:
    """Names come from the node that the line itself names, rather than from APPB_ROOT."""
    words = f"appb {option.format(used.root)} switch o"
    assert complete(words, root=Path("/nowhere")) == ["plain,other@1.0"]


def test_no_node_is_no_error(memory: Path) -> None:
    """Where there is no node, or something else in its place, nothing is offered or complained."""
    (memory / "file").touch()
    for root in (memory, memory / "nowhere", memory / "file"):
        assert complete("appb switch h", root=root) == []


def test_damage_does_not_stop_completion(used: Node) -> None:
    """Names are those of directories: damaged records and descriptions are not even read."""
    (used.version("hello", "1.0") / ".bundle/about.json").write_text("damaged")
    used.layout.current_generation.unlink()
    assert complete("appb switch h", root=used.root) == [f"plain,{each}" for each in HELLO]


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("appb sw", ["switch"]),
        ("appb switch he", HELLO),
        ("appb switch hello @ 1", ["1.0"]),
        ("appb switch hello @", ["1.0", "2.0"]),
        ("appb diff hello @ 1.0 hello @ 2", ["2.0"]),
    ],
)
def test_bash_itself_completes(used: Node, tmp_path: Path, line: str, expected: list[str]) -> None:
    """In bash, which splits words at @, the script offers what belongs behind the cursor."""
    program = tmp_path / "appb"
    command = " ".join(argv(used)[:3])
    program.write_text(f'#!/bin/sh\nexec {command} "$@"\n')
    program.chmod(0o755)
    words = " ".join(f"'{word}'" for word in line.split())
    script = (
        'eval "$(appb completion bash)"\n'
        f"COMP_WORDS=({words}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))\n"
        "compopt() { :; }\n"
        '_appb_completion appb\nprintf "%s\\n" "${COMPREPLY[@]}"\n'
    )
    done = subprocess.run(
        ["bash", "--norc", "-c", script],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
        env={"PATH": f"{tmp_path}:{os.environ['PATH']}", "APPB_ROOT": str(used.root)},
    )
    assert done.stderr == ""
    assert done.stdout.split() == expected
