"""What is printed: answers on stdout, talk on stderr, errors in three lines, nothing dangerous."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from appbundle.cli.main import run_command
from tests.crash.support import Node, Said, argv, run_cli

Bundle = Callable[[str, int], Path]

HOSTILE = "\x1b[2J\x1b[31mred\x07\u202e\nhint: run this\r"


@pytest.fixture
def running(node: Node, bundle: Bundle) -> Node:
    """A node that runs hello 2.0 and has 1.0."""
    for number in (1, 2):
        node.install(bundle("hello", number))
    return node


def assert_harmless(said: Said) -> None:
    """Each line can be printed, and an error has no lines but its own."""
    for line in (said.stdout + said.stderr).splitlines():
        assert line.isprintable(), line
    if said.status and said.status != 21:
        heads = [line.split(":")[0] for line in said.stderr.splitlines() if line[:1] != " "]
        assert heads == ["error", "kept", "hint"][: len(heads)]


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        ("remove hello@2.0", "appb switch --previous hello"),
        ("switch hello", "appb switch hello@VERSION"),
        ("switch", "appb switch --help"),
        ("switch --previous --to 1", "appb switch --help"),
        ("switch --previous hello other", "appb switch --help"),
        ("switch hello@1.0 hello@2.0", "each app once"),
        ("gc --older-than 5", "appb gc --help"),
        ("gc --keep -1", "appb gc --help"),
        ("install", "appb install --help"),
        ("list extra", "appb list --help"),
        ("--lock-timeout -1 list", "appb --help"),
        ("nonsense", "appb --help"),
        ("key nonsense", "appb key --help"),
        ("completion tcsh", "appb completion --help"),
        ("info --statement --signature 1 hello", "appb info --help"),
        ("diff 1 hello", "two generations"),
    ],
)
def test_error_has_three_lines(running: Node, words: str, hint: str) -> None:
    """What happened, what is unchanged, what to do: a line each, on stderr; stdout is empty."""
    said = run_cli(running, *words.split())
    assert said.status in (1, 2)
    assert said.stdout == ""
    lines = said.stderr.splitlines()
    assert [line.split(": ")[0] for line in lines] == ["error", "kept", "hint"]
    assert lines[1] == "kept: nothing was changed"
    assert hint in lines[2]


@pytest.mark.parametrize(
    "command",
    [
        "install NAME",
        "install DIR/NAME",
        "install EXISTING",
        "verify ./NAME",
        "verify EXISTING",
        "info ./NAME",
        "info EXISTING",
        "info NAME",
        "diff NAME NAME",
        "diff EXISTING EXISTING",
        "repair EXISTING",
        "switch NAME",
        "switch hello@NAME",
        "switch --previous NAME",
        "switch --to NAME",
        "remove NAME",
        "pin NAME",
        "unpin hello@NAME",
        "run NAME",
        "sign EXISTING --key NAME",
        "sign EXISTING --key EXISTING",
        "key show NAME",
        "key show EXISTING",
        "key new --no-passphrase EXISTING",
        "pack DIR DIR/NAME",
        "pack EXISTING DIR/x",
        "unpack EXISTING DIR/x",
        "unpack NAME EXISTING",
        "build NAME",
        "trust add NAME",
        "trust add EXISTING",
        "trust remove NAME",
        "completion NAME",
        "NAME",
        "--NAME",
        "gc --older-than NAME",
        "--root DIR/NAME list",
    ],
)
def test_hostile_names_do_not_reach_the_terminal(running: Node, memory: Path, command: str) -> None:
    """Whatever a file or argument is called, nothing of it acts on a terminal or fakes a line."""
    existing = memory / HOSTILE
    existing.write_bytes(b"ssh-ed25519 AAAA \x1b[31m\n" * 99)
    places = {"DIR": str(memory), "EXISTING": str(existing), "NAME": HOSTILE}
    words = command.split()
    for key, value in places.items():
        words = [word.replace(key, value) for word in words]
    said = run_cli(running, *words)
    assert said.status != 0
    assert_harmless(said)


def test_hostile_names_on_disk_are_listed_harmlessly(running: Node) -> None:
    """A stranger's file in a version is reported without its name doing anything."""
    (running.version("hello", "1.0") / HOSTILE.replace("/", "")).touch()
    said = run_cli(running, "verify")
    assert said.status == 21
    assert "\\x1b[31mred" in said.stdout
    assert_harmless(said)


def test_hostile_trust_is_listed_harmlessly(running: Node) -> None:
    """Comments of trusted keys are foreign text as well."""
    path = running.layout.allowed_signers
    path.write_text(f"{path.read_text().rstrip()} \x1b[31mcomment\n\x1b[32mnot a line\n")
    said = run_cli(running, "trust", "list")
    assert said.status == 0
    assert_harmless(said)


@pytest.mark.parametrize(
    ("words", "answers"),
    [
        ("list", True),
        ("history", True),
        ("info hello", True),
        ("diff 1 2", True),
        ("gc -n", True),
        ("switch --previous -n", True),
        ("switch hello@1.0", False),
        ("install BUNDLE", False),
        ("pin hello", False),
        ("gc", False),
        ("verify", False),
    ],
)
def test_quiet_leaves_the_answers(running: Node, bundle: Bundle, words: str, answers: bool) -> None:
    """-q says nothing of what was done, but still answers what was asked."""
    line = words.replace("BUNDLE", str(bundle("hello", 3))).split()
    said = run_cli(running, "-q", *line)
    assert (said.status, said.stderr) == (0, "")
    assert bool(said.stdout) == answers


def test_quiet_is_silent_about_no_problem(running: Node) -> None:
    """-q hides neither errors nor the problems that verify finds."""
    assert run_cli(running, "-q", "remove", "nobody").stderr.startswith("error: ")
    (running.version("hello", "1.0") / "share/version").unlink()
    assert "share/version" in run_cli(running, "-q", "verify").stdout


def test_verbose_talks_on_stderr(running: Node, bundle: Bundle) -> None:
    """-v says each step, on stderr; stdout has the same answer as without."""
    said = run_cli(running, "-v", "install", str(bundle("hello", 3)))
    assert "verifying hello-3.0.bundle" in said.stderr
    assert "unpacking hello 3.0" in said.stderr
    assert said.stdout.startswith("installed hello 3.0")


def test_changes_are_talk_and_the_result_is_the_answer(running: Node) -> None:
    """A switch names the affected apps on stderr, so stdout is one line for a script."""
    said = run_cli(running, "switch", "--previous")
    assert said.stderr == "hello: 2.0 → 1.0\n"
    assert said.stdout == "generation 1 is current\n"


@pytest.mark.parametrize("words", [[], ["key"], ["trust"]])
def test_command_alone_explains_itself(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Without a command, help is printed as talk; it is wrong usage all the same."""
    assert run_command(words) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("Usage: appb")


def test_pipes_get_no_colours(running: Node) -> None:
    """What is not a terminal gets plain columns that can be cut, without escape sequences."""
    done = subprocess.run(argv(running, "list"), capture_output=True, text=True)
    heading, first, second = done.stdout.splitlines()
    assert heading.split() == ["APP", "VERSION", "SIZE", "INSTALLED"]
    assert first.split()[:2] == ["hello", "1.0"]
    assert second.split()[:3] == ["hello", "*", "2.0"]


def test_terminal_that_knows_no_arrow_gets_the_result(running: Node) -> None:
    """An encoding that lacks a character changes how it looks, and not what is done or returned."""
    done = subprocess.run(
        argv(running, "switch", "--previous"),
        capture_output=True,
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
    )
    assert (done.returncode, done.stdout) == (0, b"generation 1 is current\n")
    assert b"\\u2192" in done.stderr


def test_reader_that_left_is_no_crash(running: Node) -> None:
    """`appb history | true` ends quietly."""
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(argv(running, "history"), stdout=writer, stderr=subprocess.PIPE)
    os.close(writer)
    assert done.stderr == b""
    assert done.returncode == 1


def test_root_may_be_a_link(running: Node, memory: Path) -> None:
    """--root takes a link to the node for the node."""
    link = memory / "link"
    link.symlink_to(running.root)
    assert run_cli(Node(link), "switch", "--previous").status == 0
    assert running.looks().apps == {"hello": "1.0"}


@pytest.mark.parametrize("words", ["list", "history", "gc -n", "verify", "switch --previous -n"])
def test_mistyped_root_is_no_empty_node(memory: Path, words: str) -> None:
    """A root that does not exist is said, also by commands that only look."""
    said = run_cli(Node(memory / "nowhere"), *words.split())
    assert said.status == 10
    assert "nowhere" in said.stderr
