"""How far a flow is: a bar on a terminal, lines with `-v`, events with `--json`; all on stderr."""

import json
import sys
import time
from typing import TYPE_CHECKING

from appbundle.cli.words import size
from appbundle.names import escape

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

_DRAW_AFTER_S = 0.4
"""Work that is done sooner gets no bar: drawing one costs 70 ms before it shows anything."""
_TELL_EVERY_S = 0.25
"""Between two events of one download."""


class Console:
    """Reports a flow's progress on stderr: a bar on a terminal, lines with `-v`."""

    _drawn: "Progress | None" = None

    def __init__(self, *, verbosity: int, as_json: bool) -> None:
        self._talks = verbosity >= 0 and not as_json
        self._lines = self._talks and verbosity > 0
        self._draws = self._talks and sys.stderr.isatty()
        self._began = time.monotonic()
        self._text = ""
        self._saved: int | None = None
        self._events = verbosity >= 0 and as_json
        self._told = 0.0
        self._bar: Progress | None = None
        self._task: TaskID | None = None

    def step(self, text: str) -> None:
        """Begin something that may take a while."""
        self._text, self._saved = text, None
        if self._lines:
            print(text, file=sys.stderr)
        if self._bar and self._task is not None:
            self._bar.update(self._task, description=text, total=None, completed=0)

    def advance(self, done: int, total: int) -> None:
        """Say how far the step is."""
        self._tell(done, total)
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

    def saves(self, size_bytes: int) -> None:
        """Say that the step fetches things, and how many bytes it need not fetch."""
        self._saved, self._told = size_bytes, 0.0
        text = f"{self._text} ({size(size_bytes)} saved)"
        if self._lines:
            print(text, file=sys.stderr)
        if self._bar and self._task is not None:
            self._bar.update(self._task, description=text)
        self._text = text if self._draws else self._text

    def _tell(self, done: int, total: int) -> None:
        """Write an event of a download, now and then, and the last one always."""
        if not self._events or self._saved is None:
            return
        if done < total and time.monotonic() - self._told < _TELL_EVERY_S:
            return
        self._told = time.monotonic()
        sizes = {"done_bytes": done, "total_bytes": total, "saved_bytes": self._saved}
        print(json.dumps({"event": "fetching", "what": self._text} | sizes), file=sys.stderr)

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
