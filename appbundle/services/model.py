"""What is known of services: what should run, what does, and who keeps them running."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple, Protocol

from appbundle.bundle.services import Service
from appbundle.bundle.tasks import Task
from appbundle.names import AppName, Version


class Key(NamedTuple):
    """A service of an app."""

    app: AppName
    service: str

    def __str__(self) -> str:
        return self.app if self.service == self.app else f"{self.app}/{self.service}"


class Instance(NamedTuple):
    """A service as it runs: the lasting one, or the second one of a version that shall follow."""

    key: Key
    is_next: bool = False

    def __str__(self) -> str:
        return f"{self.key} (new version)" if self.is_next else str(self.key)


class State(Enum):
    """What a service manager says of an instance."""

    RUNNING = "running"
    STARTING = "starting"
    STOPPING = "stopping"
    STOPPED = "stopped"
    DONE = "done"
    """A `once` service that has run to its end."""
    FAILED = "failed"
    ABSENT = "absent"


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """An instance as it is now.

    Args:
        state: As the manager says.
        pid: Of its main process on the host, or None.
        since: Seconds since the epoch when it came to this state, or None.
        why: What went wrong, if it failed.
        version: Which version its process runs from, or None if there is no process.
        generation: Whose configuration the process has, or None if it has none of its own.
        memory_bytes: What it holds, or None if nobody knows.
        enabled: Whether it is started at boot.
        masked: Whether an administrator lets nobody start it.
    """

    state: State
    pid: int | None = None
    since: int | None = None
    why: str = ""
    version: Version | None = None
    generation: int | None = None
    memory_bytes: int | None = None
    enabled: bool = False
    masked: bool = False

    @property
    def is_up(self) -> bool:
        """Whether it runs, or is about to."""
        return self.state in (State.RUNNING, State.STARTING)


ABSENT = Seen(state=State.ABSENT)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """An app as a generation wants it.

    Args:
        app: Which.
        version: Of it.
        generation: The number of the generation.
        services: Its services, settings filled in.
        overlays: Rendered files: (path on the node below `generations/N/`, path in the tree).
        configuration: A digest of all that was rendered for it; equal if nothing differs.
        secrets: The names of its secrets: files in `generations/N/.secrets/APP`.
        tasks: Its tasks, settings filled in.
    """

    app: AppName
    version: Version
    generation: int
    services: tuple[Service, ...]
    overlays: tuple[tuple[str, str], ...] = ()
    configuration: str = ""
    secrets: tuple[str, ...] = ()
    tasks: tuple[Task, ...] = ()


Declared = tuple[Wanted, Service]
"""A service with the app whose it is."""


class Backend(Protocol):
    """Who keeps services running on a node; every method may raise AppbError.

    Where one takes several services, it acts on all at the same time, and on all even if some fail;
    its error names those.
    """

    def check(self, wanted: Sequence[Wanted]) -> None:
        """Refuse what could not be defined, before anything is changed."""

    def define(self, wanted: Sequence[Wanted]) -> None:
        """Let exactly these apps' services exist from now on; what runs goes on running."""

    def define_next(self, *declared: Declared, shared: bool) -> None:
        """Let second instances of services exist, of these very versions.

        Args:
            shared: They listen on the sockets of the lasting ones; else on those of `declared`,
                which nobody else knows: on trial.
        """

    def forget_next(self, *keys: Key) -> None:
        """Let them exist no more; they are stopped."""

    def observe(self, instances: Collection[Instance]) -> Mapping[Instance, Seen]:
        """Look at instances; absent ones are told as such."""

    def unshared(self, keys: Collection[Key]) -> Collection[Key]:
        """Those whose sockets nobody holds but they themselves, so that nobody can share them."""

    def start(self, *instances: Instance) -> None:
        """Start them and wait until all are ready; no error for one that runs already."""

    def stop(self, *instances: Instance) -> None:
        """Stop them and wait until all have ended; no error for one that does not run."""

    def restart(self, *instances: Instance) -> None:
        """Stop and start them, or only start them; goes on even if the caller dies."""

    def reload(self, instance: Instance, wanted: Wanted | None = None) -> None:
        """Let it read its configuration again.

        Args:
            wanted: Whose rendered files it shall see before; what it sees already if None.
        """

    def set_enabled(self, keys: Collection[Key], *, enabled: bool) -> None:
        """Start services at boot, or no longer; changes nothing of what runs."""

    def run_task(self, wanted: Wanted, task: Task) -> None:
        """Run a task of this very version and generation, confined as its user, to its end."""

    def end_tasks(self, apps: Collection[AppName]) -> None:
        """End the tasks of apps that somebody who died has left."""

    def call_later(self, argv: Sequence[str], *, after_s: int) -> None:
        """Have a program run once, in so many seconds."""

    def call_at_boot(self, argv: Sequence[str]) -> None:
        """Have a program run at each boot, before anybody logs in."""

    def log_command(self, keys: Sequence[Key], *, lines: int, follow: bool) -> list[str]:
        """The program that shows what services have said."""
