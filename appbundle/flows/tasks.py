"""What a switch does to the state of apps: migrate, snapshot, restore; and what going back means.

Forward, an app's old release makes a snapshot (if going back needs one), then the new one migrates;
both while the old one serves. Back, what its release says of the other one holds: nothing but the
files (`code`), the snapshot is restored (`with-state`), or it is refused (`forbidden`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from appbundle.bundle.manifest import Manifest
from appbundle.bundle.tasks import Rollback, Task
from appbundle.errors import AppbError, ConflictError
from appbundle.flows import configuration
from appbundle.flows.context import Context
from appbundle.layout import Layout
from appbundle.names import AppName, Version
from appbundle.services.model import Backend, Wanted
from appbundle.store import state
from appbundle.store.generations import Generation

_CODE = Rollback(below=1, kind="code")


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """An app whose version changes.

    Args:
        app: Which.
        older: The release with the lower number.
        newer: The other.
        is_back: Whether it goes from the newer to the older.
        rule: What the newer says of going back to the older.
    """

    app: AppName
    older: Version
    newer: Version
    is_back: bool
    rule: Rollback

    def loss(self, made_at: int) -> str:
        """Say what going back loses.

        Args:
            made_at: When the snapshot was made, in seconds since the epoch; 0 if unknown.
        """
        when = f"{datetime.fromtimestamp(made_at, UTC):%Y-%m-%d %H:%M} UTC" if made_at else "then"
        return (
            f"{self.app}: going back from {self.newer} to {self.older} restores its state as of "
            f"{when}; what was written since is lost: {self.rule.reason}"
        )


def moves(
    layout: Layout,
    before: Generation,
    after: Generation,
    told: Mapping[AppName, Manifest] | None = None,
) -> Iterator[Move]:
    """Find the apps whose version changes, with settings or tasks in either generation.

    Args:
        told: Manifests of versions that are not on disk yet.
    """
    names = {*before.configuration, *after.configuration} & before.apps.keys() & after.apps.keys()
    for name in sorted(names):
        if before.apps[name] == after.apps[name]:
            continue
        old = configuration.manifest_of(layout, before, name, {})
        new = configuration.manifest_of(layout, after, name, told or {})
        is_back = new.release < old.release
        newer, older = (old, new) if is_back else (new, old)
        fitting = (each for each in newer.rollback if older.release < each.below)
        yield Move(
            app=name,
            older=Version(older.version),
            newer=Version(newer.version),
            is_back=is_back,
            rule=next(fitting, _CODE),
        )


def losses(
    context: Context, before: Generation, after: Generation, told: Mapping[AppName, Manifest]
) -> tuple[str, ...]:
    """Say what a switch loses.

    Raises:
        ConflictError: A release forbids to go back, or there is nothing to restore.
    """
    found = []
    for move in moves(context.layout, before, after, told):
        if move.is_back:
            made_at = _check_allowed(context.layout, move)
            if move.rule.kind == "with-state":
                found.append(move.loss(made_at))
        elif move.rule.kind == "forbidden" and context.gate.confirm_within_s is not None:
            raise ConflictError(
                f"nobody could go back unless it is confirmed: {_forbids(move)}",
                hint="leave out --confirm-within",
            )
    return tuple(found)


def _check_allowed(layout: Layout, move: Move) -> int:
    """Refuse what cannot be undone; gives when the snapshot was made, if one is needed."""
    if move.rule.kind == "forbidden":
        raise ConflictError(_forbids(move))
    if move.rule.kind == "code":
        return 0
    made_at = state.snapshot_time(layout, move.app, move.older)
    if made_at is None:
        raise ConflictError(
            f"{move.app} cannot go back from {move.newer} to {move.older}: there is no snapshot "
            f"to restore; {move.rule.reason}",
            hint="one is made when a switch leaves a version, by its snapshot task",
        )
    return made_at


def _forbids(move: Move) -> str:
    return f"{move.app} {move.newer} forbids to go back to {move.older}: {move.rule.reason}"


@dataclass(slots=True)
class Tasks:
    """The tasks of one transition.

    Args:
        backend: Who runs them.
        before: The generation that is current; None if none is.
        after: The one that shall be.
        migrated: The apps whose new release has migrated their state.
        begun: These, and those that it, or one to the same version that died, has begun to migrate.
        restored: The apps whose state was put back for `after`.
    """

    context: Context
    backend: Backend
    before: Generation | None
    after: Generation
    migrated: set[AppName] = field(default_factory=set)
    begun: set[AppName] = field(default_factory=set)
    restored: set[AppName] = field(default_factory=set)

    @property
    def _moves(self) -> list[Move]:
        before = self.before
        if before is None or before.number == self.after.number:
            return []
        return list(moves(self.context.layout, before, self.after))

    def left_migrated(self, after: Generation, apps: Collection[AppName]) -> tuple[AppName, ...]:
        """The apps whose state must be put back after a switch that died before its rename.

        Those that are to have the same version again only migrate once more: their snapshot is of
        before, and stays.

        Args:
            after: What that switch was to make current.
            apps: What it had begun to migrate.
        """
        if self.before is None:
            return ()
        self.begun = {app for app in apps if self.after.apps.get(app) == after.apps.get(app)}
        return tuple(
            move.app
            for move in moves(self.context.layout, self.before, after)
            if move.app in apps and move.app not in self.begun and move.rule.kind == "with-state"
        )

    @property
    def going_back(self) -> tuple[AppName, ...]:
        """The apps whose state is restored on the way to `after`."""
        return tuple(m.app for m in self._moves if m.is_back and m.rule.kind == "with-state")

    @property
    def coming_back(self) -> tuple[AppName, ...]:
        """The apps that have migrated, and whose state is restored if `after` fails."""
        return tuple(
            m.app for m in self._moves if m.app in self.migrated and m.rule.kind == "with-state"
        )

    @property
    def no_way_back(self) -> str:
        """Why nothing can go back after what has migrated; nothing if all can."""
        return self.why_not_back(self.migrated)

    def why_not_back(self, migrated: Collection[AppName]) -> str:
        """The same once these apps have migrated."""
        for move in self._moves:
            if move.app in migrated:
                try:
                    _check_allowed(self.context.layout, move)
                except ConflictError as error:
                    return error.what
        return ""

    @property
    def left_behind(self) -> str:
        """Why nothing can go on with what ran before `after`; nothing if all can."""
        names = ", ".join(sorted(self.restored))
        return f"the state of {names} was put back for the older version" if names else ""

    def snapshot(self) -> None:
        """Make the snapshots that going back will need, while the old generation serves.

        Not of what has been migrated already, by a switch to the same version that died.

        Raises:
            AppbError: One failed.
        """
        for move in self._moves:
            is_needed = move.rule.kind == "with-state" and not move.is_back
            if is_needed and move.app not in self.begun:
                self._snapshot(move)

    def to_migrate(self) -> list[AppName]:
        """The apps whose new release migrates their state."""
        if self.before is not None and self.before.number == self.after.number:
            return []
        had = self.before.apps if self.before else {}
        new = {name for name in self.after.configuration if name not in had}
        names = new | {move.app for move in self._moves if not move.is_back}
        return sorted(name for name in names if self._find(self.after, name, "migrate"))

    def migrate(self, apps: Iterable[AppName]) -> None:
        """Let new releases migrate the state of apps, while the old generation serves.

        Raises:
            AppbError: One failed.
        """
        for name in apps:
            self._run(self.after, name, "migrate")
            self.migrated.add(name)

    def _snapshot(self, move: Move) -> None:
        assert self.before is not None
        state.remove_snapshot(self.context.layout, move.app, move.older)
        try:
            self._run(self.before, move.app, "snapshot")
        except AppbError:
            state.remove_unfinished(self.context.layout, move.app)
            raise
        state.complete_snapshot(self.context.layout, move.app, move.older)
        if state.snapshot_time(self.context.layout, move.app, move.older) is None:
            self.context.report.note(
                f"{move.app} {move.older} has made no snapshot, so there will be no way back from "
                f"{move.newer}: {move.rule.reason}"
            )

    def restore(self, target: Generation, apps: Iterable[AppName]) -> None:
        """Put the state of apps back to what it was when `target`'s versions were left.

        Their services have ended.
        """
        for name in apps:
            self.context.report.note(f"restoring the state of {name} for {target.apps[name]}")
            self._run(target, name, "restore")
            if target is self.after:
                self.restored.add(name)

    def _run(self, generation: Generation, name: AppName, when: str) -> None:
        for wanted, task in self._find(generation, name, when):
            self.context.report.step(f"{when} {name} {wanted.version}")
            self.backend.run_task(wanted, task)

    def _find(self, generation: Generation, name: AppName, when: str) -> list[tuple[Wanted, Task]]:
        """An app's task of a kind, if it has one."""
        wanted = configuration.wanted_of(self.context.layout, generation, name)
        return [(wanted, task) for task in wanted.tasks if task.when == when] if wanted else []
