"""Starting what is due: `every` of services that run to their end, and programs for later.

When a timer last was due is the time of a file below /var/lib/appb/timers, so what was missed while
nobody was there is made up for, once, at the next start (as systemd's Persistent=yes).
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from appbundle.errors import AppbError
from appbundle.services.embedded import calendar, definitions, node
from appbundle.services.embedded.calendar import Calendar
from appbundle.services.embedded.places import Places, name_of
from appbundle.system import daemons, process

_LONGEST_WAIT_S = 30.0
"""Clocks are set, and machines sleep: so often the time is looked at anyway."""


class Timers:
    """The timers of a node.

    Args:
        places: Its files.
    """

    def __init__(self, places: Places) -> None:
        self._places = places
        self._timers: dict[str, Calendar] = {}
        self._later: dict[Path, tuple[float, list[str]]] = {}

    def reload(self, now: float) -> None:
        """Read what there is; a timer that is new here is first due when its time comes."""
        self._timers = {}
        self._later = {}
        for path in sorted(self._places.later.iterdir()):
            # Others are half written.
            if not path.name.startswith("."):
                task = json.loads(path.read_text())
                self._later[path] = (task["at"], task["argv"])
        for instance, each in definitions.read(self._places).items():
            if each.service.every and not instance.is_next:
                name = name_of(instance)
                self._timers[name] = calendar.parse(each.service.every)
                if not self._stamp(name).exists():
                    self._note(name, now)

    def wait_s(self, now: float) -> float | None:
        """How long nothing is due; None for ever."""
        times = [self._due(name) for name in self._timers]
        times += [at for at, _ in self._later.values()]
        if not times:
            return None
        due = min(times)
        return min(max(due - now, 0.0), _LONGEST_WAIT_S)

    def start_due(self, now: float) -> None:
        """Start what is due and not disabled; it is due again when its next time comes."""
        for name in [name for name in self._timers if self._due(name) <= now]:
            self._note(name, now)
            if self._is_enabled(name):
                try:
                    node.control_of(self._places).up(name)
                except (AppbError, OSError) as error:
                    print(f"{name} was due but not started: {error}", file=sys.stderr, flush=True)
        for path in [path for path, (at, _) in self._later.items() if at <= now]:
            path.unlink(missing_ok=True)
            _, argv = self._later.pop(path)
            daemons.start(argv, process.basic_environment(os.environ))

    def _due(self, name: str) -> float:
        return calendar.next_after(self._timers[name], self._stamp(name).stat().st_mtime)

    def _is_enabled(self, name: str) -> bool:
        return name.replace(".", "/") not in definitions.read_disabled(self._places)

    def _note(self, name: str, now: float) -> None:
        path = self._stamp(name)
        path.touch()
        os.utime(path, (now, now))

    def _stamp(self, name: str) -> Path:
        return self._places.timers / name
