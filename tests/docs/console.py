"""The examples of the documentation: found in Markdown, run by bash, compared with what came.

A page's blocks ```console hold commands after `$ ` (continued after `> `), each with its output
below it, standard error included. A line `...` stands for any lines, `…` for any text in a line.
`<!-- run: demo -->` before a block says that scripts/demo or scripts/demo-openstack runs it and no
test does;
`<!-- run: booted -->`, that tests/services/test_documented.py runs it where a systemd does;
`<!-- run: machine -->`, that tests/services/test_own_bundle.py runs it on a machine without Python.
`<!-- given: NAME -->` says with what the page's directory and node begin; see `place.py`.
"""

import re
import secrets
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

TIMEOUT_S = 120

_FENCE = re.compile(r"```(\w*)$")
_MARK = re.compile(r"<!-- run: (\w+) -->")
_GIVEN = re.compile(r"^<!-- given: (\w+) -->$", re.MULTILINE)
_INDENT = "    "


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A code block of a page.

    Args:
        line: Number of its first content line, from 1.
        language: After the fence; empty for indented blocks.
        lines: Its content, without indentation.
        mark: NAME of a `<!-- run: NAME -->` before it, or empty.
    """

    line: int
    language: str
    lines: tuple[str, ...]
    mark: str

    @property
    def is_run(self) -> bool:
        """Whether a test runs it."""
        return self.language == "console" and not self.mark


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """One command of a block, with the output that the page shows."""

    line: int
    text: str
    expected: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a command gave."""

    command: Command
    output: str
    status: int


def blocks(page: str) -> Iterator[Block]:
    """Find all code blocks of a page, fenced and indented."""
    lines = page.splitlines()
    at, mark, blank = 0, "", True
    while at < len(lines):
        line, begin = lines[at], at
        if match := _FENCE.match(line):
            while lines[at := at + 1] != "```":
                pass
            yield Block(
                line=begin + 2, language=match[1], lines=tuple(lines[begin + 1 : at]), mark=mark
            )
            mark = ""
        elif line.startswith(_INDENT) and blank:
            while at < len(lines) and (lines[at].startswith(_INDENT) or not lines[at].strip()):
                at += 1
            content = tuple(each.removeprefix(_INDENT) for each in lines[begin:at])
            yield Block(line=begin + 1, language="", lines=content, mark=mark)
            mark, blank = "", True
            continue
        elif found := _MARK.match(line):
            mark = found[1]
        elif line.strip():
            mark = ""
        blank = not line.strip()
        at += 1


def given(page: str) -> str:
    """What a page begins with; empty for nothing."""
    match = _GIVEN.search(page)
    return match[1] if match else ""


def commands(block: Block) -> list[Command]:
    """Split a console block into its commands."""
    found: list[tuple[int, list[str], list[str]]] = []
    for number, line in enumerate(block.lines, block.line):
        if line.startswith("$ "):
            found.append((number, [line[2:]], []))
        elif not found:
            raise ValueError(f"line {number}: output before the first command")
        elif line.startswith("> ") and not found[-1][2]:
            found[-1][1].append(line[2:])
        else:
            found[-1][2].append(line)
    return [
        Command(line=number, text="\n".join(text), expected=tuple(expected))
        for number, text, expected in found
    ]


def run(
    page: Sequence[Command],
    *,
    directory: Path,
    environment: Mapping[str, str],
    within: Sequence[str] = (),
) -> list[Outcome]:
    """Run the commands of a page, one after the other in one bash.

    Args:
        directory: Where it starts.
        environment: All that it gets.
        within: A program, with arguments, that runs bash elsewhere.
    """
    mark = secrets.token_hex(8)
    script = ["exec </dev/null 2>&1", "status=0"]
    for command in page:
        # The status must survive what is printed in between: `$ echo $?` is an example, too.
        script += [f"(exit $status)\n{command.text}\nstatus=$?", f'printf "{mark} $status\\n"']
    finished = subprocess.run(
        [*within, "bash", "--noprofile", "--norc", "-c", "\n".join(script)],
        cwd=directory,
        env=environment,
        stdout=subprocess.PIPE,
        timeout=TIMEOUT_S,
        check=False,
    )
    said = finished.stdout.decode(errors="replace")
    outputs = re.findall(rf"(.*?){mark} (\d+)\n", said, re.DOTALL)
    assert len(outputs) == len(page), f"bash ended early:\n{said}"
    return [
        Outcome(command=command, output=output, status=int(status))
        for command, (output, status) in zip(page, outputs, strict=True)
    ]


def agrees(outcome: Outcome) -> bool:
    """Whether a command's output is what the page shows."""
    pattern = "".join(map(_line_pattern, outcome.command.expected))
    output = outcome.output
    if output and not output.endswith("\n"):
        output += "\n"
    return re.fullmatch(pattern, output) is not None


def _line_pattern(line: str) -> str:
    if line == "...":
        return "(?:.*\n)*?"
    return ".*?".join(map(re.escape, line.split("…"))) + "\n"


def succeeded(outcome: Outcome, following: Command | None) -> bool:
    """Whether a command's status is good, or its failure is what the page wants to show."""
    shown = following is not None and following.text == "echo $?"
    ended = outcome.command.text.startswith("timeout ") and outcome.status == 124
    return outcome.status == 0 or ended or shown
