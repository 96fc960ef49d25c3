"""From one generation to another, with everything that runs: as one transaction.

Nothing here decides by itself: `services.plan` makes the steps from what is seen. ★ is the rename
of `generations/current`; a failure before it leaves the old generation as it runs, one after it
brings the old one back, planned anew from what then runs.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain

from appbundle.bundle.services import Service
from appbundle.errors import (
    AppbError,
    ConflictError,
    NoSpaceError,
    RevertFailedError,
    UnhealthyError,
)
from appbundle.flows import configuration, keeper, together
from appbundle.flows.context import Context
from appbundle.flows.gate import Checked, Checker, on_trial
from appbundle.flows.interrupted import (
    check_direction,
    resume_command,
    services_before,
    services_of,
)
from appbundle.flows.tasks import Tasks
from appbundle.names import AppName
from appbundle.services import plan
from appbundle.services.model import ABSENT, Backend, Declared, Instance, Key, Seen, State, Wanted
from appbundle.services.plan import Plan, Stage, Step
from appbundle.store import generations, pending, state
from appbundle.store.generations import Generation
from appbundle.store.pending import Pending
from appbundle.system import files


def go(
    context: Context, before: Generation | None, after: Generation, *, onward: bool = False
) -> None:
    """Make a generation current, and have its services run from it.

    Args:
        before: What is current.
        after: Complete and numbered, but not current; or the current one, to put things right.
        onward: `before` is not to stay, however healthy `after` is.

    Raises:
        UnhealthyError: A service of it did not become healthy; the old generation is current and
            runs (or the new one, if nothing reverts).
        RevertFailedError: Going back failed too.
    """
    layout = context.layout
    backend = keeper.find(layout)
    if backend is None:
        _go_without_keeper(context, before, after)
        return
    # Whatever dies from here on is ended or taken back by the next boot, if by nobody before.
    backend.call_at_boot(resume_command(layout))
    tasks = Tasks(context, backend, before, after)
    _Transition(context, backend, before, after, tasks, onward).run()


def _go_without_keeper(context: Context, before: Generation | None, after: Generation) -> None:
    has_tasks = _has_tasks(context, before, after)
    systemd = keeper.find_image(context.layout)
    if systemd is not None:
        # Not at the top: a live node needs none of it.
        from appbundle.flows import image

        had = services_before(context, before, pending.read(context.layout))
        image.prepare(context, systemd, before, after, had=had, has_tasks=has_tasks)
        return
    if has_tasks:
        context.report.note("tasks are not run: nobody keeps services running on this node")
    generations.activate(context.layout, after.number)


def _has_tasks(context: Context, before: Generation | None, after: Generation) -> bool:
    had = before.apps if before else {}
    changed = [name for name in after.configuration if had.get(name) != after.apps[name]]
    found = (configuration.wanted_of(context.layout, after, name) for name in changed)
    return any(each is not None and each.tasks for each in found)


@dataclass(slots=True)
class _Transition:
    context: Context
    backend: Backend
    before: Generation | None
    after: Generation
    tasks: Tasks
    onward: bool
    _known: frozenset[Key] = frozenset()
    _stray: frozenset[Key] = frozenset()
    _moved: frozenset[Key] = frozenset()
    _redeclared: frozenset[Key] = frozenset()
    _intended: tuple[str, ...] = ()
    _origin: int | None = None
    _wanted: tuple[Wanted, ...] = ()
    _services: dict[Key, Declared] = field(default_factory=dict)

    def run(self) -> None:
        self._aim_at(self.after)
        try:
            self.backend.check(self._wanted)
        except AppbError as error:
            self._remember(error)
            raise
        self._look_back()
        seen = self._observe()
        steps = self._plan(seen)
        self._refuse_masked(steps, seen)
        self._tell(steps)
        self._intended = tuple(sorted(_name(key) for key in self._running(seen, steps)))
        restoring = self.tasks.going_back
        self._write_down(onward=self.onward or bool(restoring))
        try:
            if restoring:
                self._end_all(restoring)
                self.tasks.restore(self.after, restoring)
                steps = self._plan(self._observe())
            self._change_state()
            self._perform(steps.before)
        except AppbError as error:
            self._give_up(error)
        generations.activate(self.context.layout, self.after.number)
        try:
            self._settle(steps)
        except AppbError as error:
            self._go_back(error)
        self._end()

    def _change_state(self) -> None:
        """Snapshots, and then migrations: a death among these must be known of."""
        self.tasks.snapshot()
        apps = self.tasks.to_migrate()
        if apps:
            self.tasks.begun.update(apps)
            self._write_down(onward=self.onward or bool(self.tasks.why_not_back(apps)))
            self.tasks.migrate(apps)

    def _end(self) -> None:
        """All is done; or nearly, if somebody has to confirm it."""
        if self._deadline is None:
            pending.clear(self.context.layout)
        else:
            self._write_down(waiting=True)

    @property
    def _deadline(self) -> int | None:
        """Until when somebody has to confirm, from now on; None if nobody has to."""
        within_s = self.context.gate.confirm_within_s
        if within_s is None or self._origin in (None, self.after.number):
            return None
        return int(time.time()) + within_s

    def _write_down(self, *, onward: bool = False, waiting: bool = False) -> None:
        """Say durably what is meant.

        Raises:
            NoSpaceError: There is no room for it, and what follows needs to be known of.
        """
        record = Pending(
            before=self._origin,
            after=self.after.number,
            running=self._intended,
            confirm_until=self._deadline,
            waiting=waiting,
            migrating=tuple(sorted(self.tasks.begun)),
            onward=onward,
        )
        is_needed = record.confirm_until is not None or record.migrating or onward
        self._put_down(record, is_needed=bool(is_needed) and not waiting)

    def _put_down(self, record: Pending, *, is_needed: bool) -> None:
        try:
            pending.write(self.context.layout, record)
        except OSError as error:
            said = files.translate_os_error(error, f"writing {self.context.layout.pending}")
            if is_needed or not isinstance(said, NoSpaceError):
                raise said from error
            # Going back needs no space; after a death here it is repeated by hand.
            self.context.report.note(f"{said.what}: if this is interrupted, repeat it")

    @property
    def _checker(self) -> Checker:
        return Checker(self.context, self.backend)

    # What is wanted, known and seen

    def _aim_at(self, generation: Generation) -> None:
        self._wanted = configuration.wanted(self.context.layout, generation)
        self._services = {Key(w.app, s.name): (w, s) for w in self._wanted for s in w.services}

    def _look_back(self) -> None:
        """See what ran before, and put right what a switch that died has left of state."""
        found = pending.read(self.context.layout)
        interrupted = found if found is not None and not found.waiting else None
        before = self.before.number if self.before else None
        stays = found is not None and found.after == before == self.after.number
        self._origin = found.before if found is not None and stays else before
        numbers = {before, interrupted.before if interrupted else before}
        ran = [services_of(self.context.layout, number) for number in numbers]
        self._known = frozenset.intersection(*map(frozenset, ran))
        self._stray = frozenset.union(*map(frozenset, ran)) - self._known
        self._moved = frozenset(key for had in ran for key in self._moved_since(had))
        self._redeclared = frozenset(key for had in ran for key in self._redeclared_since(had))
        if interrupted is not None:
            check_direction(self.context.layout, interrupted, self.before, self.after)
            self._intended = interrupted.running
            self._put_back(interrupted)

    def _put_back(self, interrupted: Pending) -> None:
        """Have the state that a switch changed which died before its rename, as it was.

        Raises:
            RevertFailedError: It cannot be.
        """
        layout, before = self.context.layout, self.before
        apps = [AppName(each) for each in interrupted.migrating]
        everything = {*apps, *(key.app for key in self._everything)}
        self.backend.end_tasks(sorted(everything))
        for app in sorted(everything):
            state.remove_unfinished(layout, app)
        if before is None or before.number != interrupted.before:
            return
        if not apps or interrupted.after not in generations.numbers(layout):
            return
        back = self.tasks.left_migrated(generations.read(layout, interrupted.after), apps)
        if not back:
            return
        try:
            self._end_all(back)
            self.tasks.restore(before, back)
            self._start_all(before, back)
            self._aim_at(self.after)
        except AppbError as error:
            raise RevertFailedError(
                f"the state that an interrupted switch has changed was not put back: {error.what}",
                kept=self._kept("is current"),
                hint=error.hint or "appb switch --resume tries it again",
            ) from error

    @property
    def _everything(self) -> frozenset[Key]:
        return self._known | self._stray | frozenset(self._services)

    def _moved_since(self, had: Mapping[Key, Service]) -> Iterator[Key]:
        """Services with a socket that shall listen elsewhere."""
        for key, (_, service) in self._services.items():
            old = {each.name: each.listen for each in had[key].sockets} if key in had else {}
            if any(old.get(each.name, each.listen) != each.listen for each in service.sockets):
                yield key

    def _redeclared_since(self, had: Mapping[Key, Service]) -> Iterator[Key]:
        """Services that a signal alone does not bring up to date."""
        before = self.before.secrets if self.before else {}
        for key, (_, service) in self._services.items():
            if had.get(key) != service or before.get(key.app) != self.after.secrets.get(key.app):
                yield key

    def _observe(self) -> Mapping[Instance, Seen]:
        keys = sorted(self._everything)
        return self.backend.observe(
            [Instance(k, is_next) for k in keys for is_next in (False, True)]
        )

    def _plan(self, seen: Mapping[Instance, Seen], *, reverting: bool = False) -> Plan:
        digests = configuration.digests(
            self.context.layout,
            {(key.app, now.generation) for (key, _), now in seen.items() if now.generation},
        )
        return plan.make(
            self._wanted,
            seen,
            known=self._known,
            stray=self._stray,
            configurations={
                (key, now.generation): digests.get((key.app, now.generation), "")
                for (key, _), now in seen.items()
                if now.generation
            },
            intended=[plan.reference(name) for name in self._intended],
            moved=self._moved,
            redeclared=self._redeclared,
            unshared=self.backend.unshared(
                [key for key in self._overlapping if seen[Instance(key)].is_up]
            ),
            reverting=reverting,
        )

    def _running(self, seen: Mapping[Instance, Seen], steps: Plan) -> Iterator[Key]:
        """Services that shall run when all is done, and those that do now: if it goes back."""
        stopped = {*steps.stay_stopped}
        for key in self._everything:
            is_meant = key in self._services and self._services[key][1].kind == "long"
            if (is_meant and key not in stopped) or seen.get(Instance(key), ABSENT).is_up:
                yield key

    @property
    def _overlapping(self) -> Iterator[Key]:
        found = self._services.items()
        return (key for key, (_, each) in found if each.change == "overlap" and each.sockets)

    def _refuse_masked(self, steps: Plan, seen: Mapping[Instance, Seen]) -> None:
        """Say that a service cannot follow, before anything has changed.

        Raises:
            ConflictError: An administrator lets nobody start it.
        """
        for step in chain.from_iterable(steps.after):
            if isinstance(step, plan.Start | plan.Restart) and seen[Instance(step.key)].masked:
                error = ConflictError(
                    f"{step.key} is masked, so nobody can start it",
                    kept=self._kept("runs on as before"),
                    hint="systemctl unmask, or systemctl stop: what is stopped stays so",
                )
                self._remember(error)
                raise error

    def _tell(self, steps: Plan) -> None:
        for key in steps.stay_stopped:
            self.context.report.note(f"{key} was stopped, and stays so; appb start {key} starts it")
        for key in steps.kept:
            self.context.report.note(f"{key} runs on from its old version until it is restarted")

    # Doing it

    def _settle(self, steps: Plan) -> None:
        """What follows the rename."""
        self.backend.set_enabled(steps.disable, enabled=False)
        self._perform([steps.ends])
        self.backend.define(self._wanted)
        self.backend.set_enabled(steps.enable, enabled=True)
        self._perform(steps.after)

    def _perform(self, stages: Sequence[Stage]) -> None:
        for stage in stages:
            for steps in together.portions(stage):
                for step in steps:
                    self.context.report.step(step.describe())
                self._do(steps)

    def _do(self, steps: Sequence[Step]) -> None:
        """Do steps at the same time, kind by kind; then wait for the health of all."""
        for kind in dict.fromkeys(map(type, steps)):
            self._act(kind, [step.key for step in steps if type(step) is kind])
        checked = [step.key for step in steps if isinstance(step, plan.Check)]
        self._checker.check(*((Instance(key), self._services[key][1]) for key in checked))

    def _act(self, kind: type[Step], keys: Sequence[Key]) -> None:
        lasting = [Instance(key) for key in keys]
        match kind:
            case plan.Stop:
                self.backend.stop(*lasting)
            case plan.StartNext:
                self._start_seconds(keys)
            case plan.StopNext:
                self._end_seconds(keys)
            case plan.Start:
                self.backend.start(*lasting)
            case plan.Restart:
                self.backend.restart(*lasting)
            case plan.Reload:
                for each in lasting:
                    self.backend.reload(each, self._services[each.key][0])
            case plan.Check:
                pass
            case _:
                raise TypeError(f"an unknown kind of step: {kind}")

    def _start_seconds(self, keys: Sequence[Key]) -> None:
        """Prove new versions on sockets that nobody knows, then let them share the real ones."""
        taken: set[int] = set()
        declared = [self._services[key] for key in keys]
        private = [(wanted, on_trial(service, taken)) for wanted, service in declared]
        seconds = [Instance(key, is_next=True) for key in keys]
        # A switch that died here may have left its own.
        self._end_seconds(keys)
        self.backend.define_next(*private, shared=False)
        self.backend.start(*seconds)
        self._checker.ask_health(*_with_services(seconds, private))
        self._end_seconds(keys)
        self.backend.define_next(*declared, shared=True)
        self.backend.start(*seconds)
        self._checker.wait_accepting(*_with_services(seconds, declared))

    # Not doing it

    def _give_up(self, error: AppbError) -> None:
        """Before the rename: take away what was tried; the old generation never stopped.

        But for apps whose state was put back, or must be: they are started again.
        """
        self._remember(error)
        try:
            self._end_all_seconds()
        except AppbError as second:
            raise RevertFailedError(
                f"generation {self.after.number} was not made current: {error.what}; and what was "
                f"tried of it was not ended: {second.what}",
                kept=self._kept("is current"),
                hint="appb switch --resume tries it again",
            ) from second
        why = self.tasks.no_way_back
        try:
            if self.before is not None and not why:
                apps = self.tasks.coming_back
                self._end_all(apps)
                self.tasks.restore(self.before, apps)
                self._start_all(self.before, {*apps, *self.tasks.going_back})
        except AppbError as second:
            why = second.what
        pending.clear(self.context.layout)
        if why:
            raise RevertFailedError(
                f"generation {self.after.number} was not made current: {error.what}; but what it "
                f"has done to the state stays: {why}",
                kept=self._kept("is current"),
                hint=error.hint or "appb status; appb logs APP",
            ) from error
        raise _kind(error)(
            f"generation {self.after.number} was not made current: {error.what}",
            kept=self._kept("runs on as before"),
            hint=error.hint or "appb history; appb logs APP",
        ) from error

    def _go_back(self, error: AppbError) -> None:
        """After the rename: the parent becomes current, and what runs follows."""
        self._remember(error)
        before, stays = self.before, self.onward or not self.context.gate.revert
        if before is None or stays or before.number == self.after.number:
            self._end()
            raise UnhealthyError(
                f"generation {self.after.number} is current, but {error.what}",
                kept="nothing was reverted",
                hint=error.hint or "appb status; appb logs APP",
            ) from error
        if why := self.tasks.no_way_back or self.tasks.left_behind:
            pending.clear(self.context.layout)
            raise RevertFailedError(
                f"{error.what}; and there is no way back: {why}",
                kept=f"generation {self.after.number} is current",
                hint=error.hint or "appb status; appb logs APP",
            ) from error
        self.context.report.note(f"{error.what}; going back to generation {before.number}")
        try:
            self._turn_round(before)
            self._end_all(self.tasks.coming_back)
            self.tasks.restore(before, self.tasks.coming_back)
            generations.activate(self.context.layout, before.number)
            self._settle(self._plan(self._observe(), reverting=True))
            self._end_all_seconds()
        except AppbError as second:
            raise RevertFailedError(
                f"{error.what}; and going back to generation {before.number} failed: {second.what}",
                kept=f"generation {generations.current_number(self.context.layout)} is current",
                hint=second.hint or "appb status; appb logs APP",
            ) from second
        pending.clear(self.context.layout)
        raise _kind(error)(
            f"generation {self.after.number} was reverted: {error.what}",
            kept=self._kept("is current again and runs"),
            hint=error.hint or "appb history; appb logs APP",
        ) from error

    def _turn_round(self, before: Generation) -> None:
        """From now on the way leads back, also for whoever comes after a death."""
        here = frozenset(self._services)
        known, everything = self._known & here, self._everything
        self._known, self._stray = known, everything - known
        self._aim_at(before)
        record = Pending(
            before=self.after.number, after=before.number, running=self._intended, onward=True
        )
        self._put_down(record, is_needed=False)

    def _end_all(self, apps: Collection[AppName]) -> None:
        """End every service of apps, so that nobody writes to their state."""
        instances = [
            Instance(key, is_next)
            for key in sorted(self._everything)
            for is_next in (True, False)
            if key.app in apps
        ]
        seen = self.backend.observe(instances)
        there = [each for each in instances if seen[each].state is not State.ABSENT]
        for instance in there:
            self.context.report.step(f"stop {instance}")
        self.backend.stop(*there)

    def _start_all(self, generation: Generation, apps: Collection[AppName]) -> None:
        """Start those services of apps that were to run."""
        self._aim_at(generation)
        for level in plan.in_levels(self._services):
            meant = [key for key in level if key.app in apps and _name(key) in self._intended]
            for keys in together.portions(meant):
                self.backend.start(*map(Instance, keys))

    def _end_all_seconds(self) -> None:
        seconds = [Instance(key, is_next=True) for key in self._services]
        seen = self.backend.observe(seconds)
        self._end_seconds([each.key for each in seconds if seen[each].state is not State.ABSENT])

    def _end_seconds(self, keys: Sequence[Key]) -> None:
        self.backend.stop(*(Instance(key, is_next=True) for key in keys))
        self.backend.forget_next(*keys)

    def _remember(self, error: AppbError) -> None:
        if self.before is None or self.before.number != self.after.number:
            generations.record_outcome(
                self.context.layout, self.after, f"failed: {error.what.splitlines()[0]}"
            )

    def _kept(self, what: str) -> str:
        return f"generation {self.before.number} {what}" if self.before else "nothing ran before"


def _kind(error: AppbError) -> type[AppbError]:
    """What to call it once all is as before: a full disk is no fault of the new version."""
    return NoSpaceError if isinstance(error, NoSpaceError) else UnhealthyError


def _with_services(
    instances: Sequence[Instance], declared: Sequence[Declared]
) -> Iterator[Checked]:
    return ((each, service) for each, (_, service) in zip(instances, declared, strict=True))


def _name(key: Key) -> str:
    return f"{key.app}/{key.service}"
