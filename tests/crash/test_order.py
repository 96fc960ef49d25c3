"""The order of system calls, by which a power cut finds either the old or the new: seen by strace.

Row 59. What another program can observe is in test_kill.py and test_power_loss.py; here it is the
order itself, since no file system shows every disorder each time.
"""

import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from .support import Node, argv, make_bundle

pytestmark = pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace")

_RENAMES = ("rename", "renameat", "renameat2")
_SYNCS = ("syncfs", "fsync", "fdatasync")
_CREATES = ("mkdir", "mkdirat", "symlink", "symlinkat", "link", "linkat", "openat", "open", "creat")
_OWNERS = ("chown", "fchown", "lchown", "fchownat")
_LINE = re.compile(r"(\d+) +(?:<\.\.\. )?(\w+)(?:\(| resumed>)(.*)")
_WORD = re.compile(r'"([^"]*)"|(?:AT_FDCWD|\d+)<([^>]*)>')


@dataclass(frozen=True)
class Call:
    """A system call that has returned.

    Args:
        name: As in the manual.
        text: Its arguments and result, as strace writes them.
        paths: What they name, absolute: strings, and behind descriptors.
    """

    name: str
    text: str
    paths: tuple[str, ...]


def _trace(node: Node, *arguments: str, only: Iterable[str]) -> list[Call]:
    """Run a command to its good end and give its calls, and its workers', as they returned."""
    log = node.root.parent / "trace"
    kinds = ",".join(f"?{name}" for name in only)
    subprocess.run(
        [
            "strace",
            "-f",
            "-y",
            "-s",
            "999",
            "-e",
            f"trace={kinds}",
            "-o",
            log,
            *argv(node, *arguments),
        ],
        check=True,
        capture_output=True,
        timeout=60,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "TMPDIR": "/nonexistent"},
    )
    begun: dict[str, str] = {}
    calls = []
    for line in log.read_text().splitlines():
        match = _LINE.fullmatch(line)
        if match is None:
            continue
        process, name, rest = match.groups()
        if rest.endswith("<unfinished ...>"):
            begun[process] = rest.removesuffix("<unfinished ...>")
        elif " = -1 " not in rest:
            text = begun.pop(process, "") + rest if "resumed>" in line else rest
            calls.append(Call(name, text, tuple(_paths(text))))
    return calls


def _paths(text: str) -> Iterator[str]:
    """The names in a call's arguments, each below the directory whose descriptor precedes it."""
    base = ""
    for word, behind in _WORD.findall(text.rpartition(" = ")[0]):
        if word:
            yield os.path.normpath(os.path.join(base, word))
        elif base:
            yield base
        base = behind
    if base:
        yield base


def _renames(calls: list[Call]) -> list[tuple[int, str, str]]:
    """Where in the list something was renamed, from what to what."""
    return [
        (at, call.paths[0], call.paths[1]) for at, call in enumerate(calls) if call.name in _RENAMES
    ]


def _was_made(call: Call) -> str:
    """What a call has created; empty if it only opened."""
    if call.name not in _CREATES or (call.name.startswith("open") and "O_CREAT" not in call.text):
        return ""
    return call.paths[-1]


def _is_durable(calls: list[Call], made: int, path: str, before: int) -> bool:
    """Whether what was made at one place of the list was flushed before another."""
    return any(
        call.name == "syncfs" or (call.name in _SYNCS and call.paths[0] == path)
        for call in calls[made + 1 : before]
    )


def _assert_in_order(calls: list[Call]) -> None:
    """What is renamed was durable before, and the rename is before the next one."""
    renames = _renames(calls)
    assert renames
    for (at, old, new), (following, _, _) in zip(
        renames, [*renames[1:], (len(calls), "", "")], strict=True
    ):
        made = [(i, path) for i, call in enumerate(calls[:at]) if (path := _was_made(call))]
        for i, path in made:
            if path == old or path.startswith(f"{old}/"):
                # A link's target is in the directory's own metadata, as the directory's names are.
                flushed = old if "symlink" in calls[i].name else path
                assert _is_durable(calls, i, flushed, at), f"{path} before {new}"
        home = os.path.dirname(old if "/trash/" in new else new)
        assert _is_durable(calls, at, home, following), f"{new} in {home}"


def exporting(memory: Path, version: int) -> Path:
    """A bundle that exports commands, which are written with each generation."""
    commands = {"one": ("/bin/hello",), "two": ("/bin/hello", "2")}
    return make_bundle(memory, "one", str(version), release=version, commands=commands)


@pytest.fixture
def node(node: Node, memory: Path) -> Node:
    """A node that runs one 2 after one 1."""
    for version in (1, 2):
        node.install(exporting(memory, version))
    return node


COMMANDS = [
    "install {three}",
    "install {directory}",
    "install {three} {directory} --no-switch",
    "switch one@1",
    "switch --previous one",
    "switch --previous",
    "switch --to 1",
    "remove one@1",
    "remove one",
    "pin one@1",
]


def _words(command: str, memory: Path) -> list[str]:
    three = exporting(memory, 3) if "{three}" in command else ""
    directory = (
        make_bundle(memory, "other", "1", as_directory=True) if "{directory}" in command else ""
    )
    return command.format(three=three, directory=directory).split()


@pytest.mark.parametrize("command", COMMANDS)
def test_renames_are_between_flushes(node: Node, memory: Path, command: str) -> None:
    """Whatever gets its name by a rename is on the disk before, and the name is soon after."""
    words = _words(command, memory)
    _assert_in_order(_trace(node, *words, only=(*_RENAMES, *_SYNCS, *_CREATES)))
    assert node.problems() == {}


def test_pool_takes_what_is_on_the_disk(node: Node, memory: Path) -> None:
    """A content is linked into the pool only after a flush that came after its last byte."""
    words = _words("install {three}", memory)
    calls = _trace(node, *words, only=(*_SYNCS, *_CREATES))
    files = {path: at for at, call in enumerate(calls) if (path := _was_made(call))}
    pooled = [
        (at, source)
        for at, call in enumerate(calls)
        if call.name == "linkat" and "/objects/" in call.paths[-1]
        for source in call.paths
        if "/stage/" in source and source in files
    ]
    assert pooled
    for at, source in pooled:
        assert _is_durable(calls, files[source], source, at), source


@pytest.mark.parametrize("command", ["switch --previous", "switch --to 1"])
def test_going_back_is_one_rename(node: Node, command: str) -> None:
    """All apps of a node go back with one rename; nothing else that anyone looks at is touched."""
    calls = _trace(node, *command.split(), only=(*_RENAMES, *_CREATES, "unlink", "unlinkat"))
    ((_, _, new),) = _renames(calls)
    assert new == str(node.layout.current_generation)
    made = [path for call in calls if (path := _was_made(call))]
    assert made[:1] == [str(node.layout.lock)]
    assert all(path.startswith(f"{node.layout.generations}/1/") for path in made[1:])


def test_installing_writes_only_below_apps(node: Node, memory: Path) -> None:
    """Rows 3, 13, 26: never in /tmp, never through a link or into a file that is there already.

    No owner is changed either, so that there is none to change in a race.
    """
    for words in (_words("install {three}", memory), _words("install {directory}", memory)):
        calls = _trace(node, *words, only=(*_RENAMES, *_CREATES, *_OWNERS))
        assert [call for call in calls if call.name in _OWNERS] == []
        made = [(path, call) for call in calls if (path := _was_made(call))]
        assert len(made) > 10
        for path, call in made:
            assert path.startswith(f"{node.layout.apps}/"), call
            if "O_CREAT" in call.text:
                assert "O_NOFOLLOW" in call.text, call
                assert "O_EXCL" in call.text or path == str(node.layout.lock), call
