"""Where the embedded supervisor has its files, and what it calls things."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from appbundle.errors import UnsupportedError
from appbundle.layout import Layout
from appbundle.services.model import Instance, Key
from appbundle.system import files, process

MARK = "APPB_SUPERVISED"
"""A variable of everything that the supervisor starts, but not of services; names the root."""
HOLDER = "holder"
"""Our own service; the names of all others have a dot."""


def name_of(instance: Instance) -> str:
    """What an instance is called in directories: `APP.SERVICE` or `APP.SERVICE.next`."""
    app, service = instance.key
    return f"{app}.{service}.next" if instance.is_next else f"{app}.{service}"


def line_of(key: Key) -> str:
    """What a service is called in the holder's protocol: always both names."""
    return f"{key.app}/{key.service}"


@dataclass(frozen=True, slots=True)
class Places:
    """Paths below one root."""

    layout: Layout

    @property
    def run(self) -> Path:
        return self.layout.root / "run/appb"

    @property
    def state(self) -> Path:
        return self.layout.root / "var/lib/appb"

    @property
    def logs(self) -> Path:
        return self.layout.root / "var/log/appb"

    @property
    def lock(self) -> Path:
        return self.run / "lock"

    @property
    def kind(self) -> Path:
        """Which supervisor runs."""
        return self.run / "kind"

    @property
    def definitions(self) -> Path:
        return self.run / "services.json"

    @property
    def sockets(self) -> Path:
        """Where the holder hands out the sockets of services."""
        return self.run / "sockets"

    @property
    def trial_sockets(self) -> Path:
        """Where it hands out those of second instances on trial."""
        return self.run / "sockets.next"

    @property
    def supervisor(self) -> Path:
        """What the supervisor reads and keeps."""
        return self.run / "supervisor"

    @property
    def disabled(self) -> Path:
        return self.state / "disabled"

    @property
    def at_boot(self) -> Path:
        """What to run after a boot that finds a switch half done."""
        return self.state / "at-boot.json"

    @property
    def later(self) -> Path:
        """What the holder shall run, one file each."""
        return self.run / "later"

    @property
    def timers(self) -> Path:
        return self.state / "timers"

    @property
    def mark(self) -> str:
        return f"{MARK}={self.layout.root}"

    def log(self, name: str) -> Path:
        """The directory of what an instance says; the newest is in `current`."""
        return self.logs / name

    def make(self) -> None:
        """Make the directories.

        Raises:
            UnsupportedError: One is somebody else's, who could then decide what root starts.
        """
        for path in (self.run, self.state, self.logs):
            path.parent.mkdir(parents=True, exist_ok=True)
            files.make_directory(path)
            files.check_owner(path)
        for path in (self.timers, self.later):
            files.make_directory(path)

    def environment(self) -> dict[str, str]:
        """What the supervisor and all starters get."""
        return process.basic_environment(os.environ, **{MARK: str(self.layout.root)})

    def check_root(self, refused: str) -> None:
        """Refuse a root directory whose name a supervisor's files cannot hold."""
        bad = sorted({c for c in str(self.layout.root) if c in refused or not c.isprintable()})
        if bad:
            raise UnsupportedError(
                f"the name of {self.layout.root} has {''.join(bad)!r}, which the supervisor's "
                "configuration cannot express",
                hint="use another directory",
            )
