"""What one run of `appb` was told, and everything that it prints."""

import json
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from appbundle.cli.console import Console
from appbundle.errors import AppbError, BuildError, NotFoundError
from appbundle.flows.context import DEFAULT_GATE, Context, Gate
from appbundle.layout import Layout
from appbundle.names import escape


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
