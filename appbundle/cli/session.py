"""What one run of `appb` was told, and everything that it prints."""

import json
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from appbundle.errors import AppbError, BuildError, NotFoundError
from appbundle.flows.context import DEFAULT_GATE, Context, Gate
from appbundle.layout import Layout
from appbundle.names import escape

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

_DRAW_AFTER_S = 0.4
"""Work that is done sooner gets no bar: drawing one costs 70 ms before it shows anything."""


@dataclass(slots=True)
class Session:
    """The global options, and the ways to speak.

    Args:
        root: Of the node.
        as_json: One JSON document on stdout instead of words.
        verbosity: -1 quiet, 0 normal, more with every `-v`.
        lock_timeout_s: How long to wait for another appb.
    """

    root: Path
    as_json: bool
    verbosity: int
    lock_timeout_s: float

    @property
    def layout(self) -> Layout:
        """The node's paths.

        Raises:
            NotFoundError: The node's root is no directory: a mistyped --root is no empty node.
        """
        if not os.path.isdir(self.root):
            raise NotFoundError(f"there is no directory {self.root}", hint=f"mkdir {self.root}")
        return Layout(self.root)

    def context(self, gate: Gate = DEFAULT_GATE) -> Context:
        """What flows need: the clock is read once, here.

        Args:
            gate: How a switch of services is judged.
        """
        return Context(
            layout=self.layout,
            now=int(time.time()),
            by=_user(),
            lock_timeout_s=self.lock_timeout_s,
            report=Console(verbosity=self.verbosity, as_json=self.as_json),
            gate=gate,
        )

    def result(self, document: Any, words: str) -> None:
        """Print what was asked for: the document as JSON, or else the words."""
        Console.stop_drawing()
        # Flushed, so that hints on stderr come after it where both go into one file.
        print(json.dumps(document, indent=1) if self.as_json else words, flush=True)

    def done(self, document: Any, words: str) -> None:
        """Print what was done; the same, but the words are only said unless quiet is wanted."""
        if self.as_json or self.verbosity >= 0:
            self.result(document, words)

    def say(self, text: str) -> None:
        """Print talk on stderr, unless quiet or JSON is wanted."""
        if self.verbosity >= 0 and not self.as_json:
            print(text, file=sys.stderr)


class Console:
    """Reports a flow's progress on stderr: a bar on a terminal, lines with `-v`."""

    _drawn: "Progress | None" = None

    def __init__(self, *, verbosity: int, as_json: bool) -> None:
        self._talks = verbosity >= 0 and not as_json
        self._lines = self._talks and verbosity > 0
        self._draws = self._talks and sys.stderr.isatty()
        self._began = time.monotonic()
        self._text = ""
        self._bar: Progress | None = None
        self._task: TaskID | None = None

    def step(self, text: str) -> None:
        """Begin something that may take a while."""
        self._text = text
        if self._lines:
            print(text, file=sys.stderr)
        if self._bar and self._task is not None:
            self._bar.update(self._task, description=text, total=None, completed=0)

    def advance(self, done: int, total: int) -> None:
        """Say how far the step is."""
        if not self._draws or time.monotonic() - self._began < _DRAW_AFTER_S:
            return
        if self._bar is None:
            from rich.console import Console as RichConsole
            from rich.progress import Progress

            self._bar = Console._drawn = Progress(console=RichConsole(stderr=True), transient=True)
            self._task = self._bar.add_task(self._text, total=total)
            self._bar.start()
        assert self._task is not None
        self._bar.update(self._task, completed=done, total=total)

    def note(self, text: str) -> None:
        """Say something worth knowing that is not the result."""
        if self._talks:
            self.stop_drawing()
            self._bar = None
            print(escape(text), file=sys.stderr)

    @classmethod
    def stop_drawing(cls) -> None:
        """Take the bar away, if there is one, before anything else is printed."""
        if cls._drawn is not None:
            cls._drawn.stop()
            cls._drawn = None


def _user() -> str:
    import pwd

    try:
        return os.environ.get("SUDO_USER") or pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())


def print_error(error: AppbError, *, as_json: bool) -> int:
    """Print an error as three lines on stderr, or as JSON on stdout; gives its exit code."""
    Console.stop_drawing()
    issues = error.issues if isinstance(error, BuildError) else ()
    if as_json:
        said: dict[str, Any] = {
            "kind": error.kind,
            "what": error.what,
            "kept": error.kept,
            "hint": error.hint,
        }
        if issues:
            said["issues"] = list(issues)
        print(json.dumps({"error": said}, indent=1))
        return error.exit_code
    red, plain = ("\033[1;31m", "\033[0m") if sys.stderr.isatty() else ("", "")
    print(f"{red}error:{plain} {_harmless(error.what)}", file=sys.stderr)
    for issue in issues:
        print(f"  {escape(issue)}", file=sys.stderr)
    if error.kept:
        print(f"kept: {_harmless(error.kept)}", file=sys.stderr)
    if error.hint:
        print(f"hint: {_harmless(error.hint)}", file=sys.stderr)
    return error.exit_code


def _harmless(text: str) -> str:
    """Escape a message whole, whatever foreign text is in it; further lines of it are indented."""
    return "\n  ".join(escape(line, limit=4096) for line in text.split("\n"))


def table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Lay out rows under headings; drawn with colour on a terminal, plain columns elsewhere."""
    cells = [[escape(cell) for cell in row] for row in rows]
    if sys.stdout.isatty():
        return _drawn(headings, cells)
    widths = [max(map(len, column)) for column in zip(headings, *cells, strict=True)]
    lines = (
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in [[each.upper() for each in headings], *cells]
    )
    return "\n".join(lines)


def _drawn(headings: Sequence[str], cells: Sequence[Sequence[str]]) -> str:
    from rich import box
    from rich.console import Console as RichConsole
    from rich.table import Table

    drawn = Table(*headings, box=box.SIMPLE, header_style="bold cyan")
    for row in cells:
        drawn.add_row(*row)
    console = RichConsole()
    with console.capture() as capture:
        console.print(drawn)
    return capture.get().rstrip()


def size(count: int) -> str:
    """Bytes for people: `17.1 MB`."""
    value = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"


def when(timestamp: int) -> str:
    """A time for people, in the local zone."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(timestamp))
