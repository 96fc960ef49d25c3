"""From one generation to another, with everything that runs: as one transaction.

Nothing here decides by itself: `services.plan` makes the steps from what is seen. ★ is the rename
of `generations/current`; a failure before it leaves the old generation as it runs, one after it
brings the old one back, planned anew from what then runs.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from appbundle.bundle.services import Service
from appbundle.errors import AppbError, RevertFailedError, UnhealthyError
from appbundle.flows import configuration, keeper
from appbundle.flows.context import Context
from appbundle.flows.gate import Checker, on_trial
from appbundle.flows.tasks import Tasks
from appbundle.names import AppName
from appbundle.services import plan
from appbundle.services.model import ABSENT, Backend, Instance, Key, Seen, State, Wanted
from appbundle.services.plan import Plan, Step
from appbundle.store import generations, pending
from appbundle.store.generations import Generation
from appbundle.store.pending import Pending


def go(context: Context, before: Generation | None, after: Generation) -> None:
    """Make a generation current, and have its services run from it.

    Args:
        before: What is current.
        after: Complete and numbered, but not current; or the current one, to put things right.

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
    tasks = Tasks(context, backend, before, after)
    _Transition(context, backend, before, after, tasks).run()


def _go_without_keeper(context: Context, before: Generation | None, after: Generation) -> None:
    has_tasks = _has_tasks(context, before, after)
    systemd = keeper.find_image(context.layout)
    if systemd is not None:
        # Not at the top: a live node needs none of it.
        from appbundle.flows import image

        had = _services_before(context, before, pending.read(context.layout))
        image.prepare(context, systemd, before, after, had=had, has_tasks=has_tasks)
        return
    if has_tasks:
        context.report.note("tasks are not run: nobody keeps services running on this node")
    generations.activate(context.layout, after.number)


def _services_before(
    context: Context, before: Generation | None, interrupted: Pending | None
) -> dict[Key, Service]:
    """The services that this node had before: those of the generation that really ran."""
    if interrupted is not None and interrupted.before is None:
        return {}
    if interrupted is not None and interrupted.before in generations.numbers(context.layout):
        before = generations.read(context.layout, interrupted.before)
    wanted = configuration.wanted(context.layout, before) if before else ()
    return {Key(w.app, s.name): s for w in wanted for s in w.services}


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
    _moved: frozenset[Key] = frozenset()
    _redeclared: frozenset[Key] = frozenset()
    _wanted: tuple[Wanted, ...] = ()
    _services: dict[Key, tuple[Wanted, Service]] = field(default_factory=dict)

    def run(self) -> None:
        layout = self.context.layout
        self._aim_at(self.after)
        interrupted = pending.read(layout)
        had = _services_before(self.context, self.before, interrupted)
        known = frozenset(had)
        self._moved = frozenset(self._moved_since(had))
        self._redeclared = frozenset(self._redeclared_since(had))
        seen = self._observe(known)
        steps = self._plan(seen, known, intended=_intended(interrupted))
        self._tell(steps)
        running = tuple(sorted(_name(key) for key in self._running(seen, steps)))
        restoring = self.tasks.going_back
        try:
            self.backend.check(self._wanted)
        except AppbError as error:
            self._remember(error)
            raise
        pending.write(layout, self._record(running, restoring=restoring))
        try:
            if restoring:
                self._end_all(known, restoring)
                self.tasks.restore(self.after, restoring)
                steps = self._plan(self._observe(known), known, intended=_references(running))
            self.tasks.forward()
            self._perform(steps.before)
        except AppbError as error:
            self._give_up(error, known, running)
        generations.activate(layout, self.after.number)
        try:
            self._settle(steps)
        except AppbError as error:
            self._go_back(error, running, known)
        within_s = self.context.gate.confirm_within_s
        if within_s is None or self.before is None or self.before.number == self.after.number:
            pending.clear(layout)
        else:
            until = int(time.time()) + within_s
            pending.write(layout, self._record(running, confirm_until=until))

    @property
    def _checker(self) -> Checker:
        return Checker(self.context, self.backend)

    # What is wanted, known and seen

    def _aim_at(self, generation: Generation) -> None:
        self._wanted = configuration.wanted(self.context.layout, generation)
        self._services = {Key(w.app, s.name): (w, s) for w in self._wanted for s in w.services}

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

    def _observe(self, known: frozenset[Key]) -> Mapping[Instance, Seen]:
        keys = sorted({*known, *self._services})
        return self.backend.observe(
            [Instance(k, is_next) for k in keys for is_next in (False, True)]
        )

    def _plan(
        self,
        seen: Mapping[Instance, Seen],
        known: frozenset[Key],
        *,
        intended: Sequence[Key] = (),
        reverting: bool = False,
    ) -> Plan:
        digests = configuration.digests(
            self.context.layout,
            {(key.app, now.generation) for (key, _), now in seen.items() if now.generation},
        )
        return plan.make(
            self._wanted,
            seen,
            known=known,
            configurations={
                (key, now.generation): digests.get((key.app, now.generation), "")
                for (key, _), now in seen.items()
                if now.generation
            },
            intended=intended,
            moved=self._moved,
            redeclared=self._redeclared,
            reverting=reverting,
        )

    def _running(self, seen: Mapping[Instance, Seen], steps: Plan) -> Iterator[Key]:
        """Services that shall run when all is done."""
        stopped = {*steps.stay_stopped}
        for key, (_, service) in self._services.items():
            now = seen.get(Instance(key), ABSENT)
            if (service.kind == "long" and key not in stopped) or now.is_up:
                yield key

    def _record(
        self,
        running: tuple[str, ...],
        *,
        confirm_until: int | None = None,
        restoring: tuple[str, ...] = (),
    ) -> Pending:
        return Pending(
            before=self.before.number if self.before else None,
            after=self.after.number,
            running=running,
            confirm_until=confirm_until,
            restoring=restoring,
        )

    def _tell(self, steps: Plan) -> None:
        for key in steps.stay_stopped:
            self.context.report.note(f"{key} was stopped, and stays so; appb start {key} starts it")
        for key in steps.kept:
            self.context.report.note(f"{key} runs on from its old version until it is restarted")

    # Doing it

    def _settle(self, steps: Plan) -> None:
        """What follows the rename."""
        self.backend.set_enabled(steps.disable, enabled=False)
        gone = [step for step in steps.after if isinstance(step, plan.Stop)]
        self._perform(gone)
        self.backend.define(self._wanted)
        self.backend.set_enabled(steps.enable, enabled=True)
        self._perform([step for step in steps.after if step not in gone])

    def _perform(self, steps: Sequence[Step]) -> None:
        for step in steps:
            self.context.report.step(step.describe())
            self._do(step)

    def _do(self, step: Step) -> None:
        lasting = Instance(step.key)
        match step:
            case plan.Stop():
                self.backend.stop(lasting)
            case plan.StartNext():
                self._start_next(step.key)
            case plan.StopNext():
                self._end_second(step.key)
            case plan.Start():
                self.backend.start(lasting)
                self._check(lasting)
            case plan.Restart():
                self.backend.restart(lasting)
                self._check(lasting)
            case plan.Reload():
                self.backend.reload(lasting, self._services[step.key][0])
                self._check(lasting)
            case plan.Check():
                self._check(lasting)
            case _:
                raise TypeError(f"an unknown step: {step!r}")

    def _start_next(self, key: Key) -> None:
        """Prove the new version on sockets that nobody knows, then let it share the real ones."""
        wanted, service = self._services[key]
        second = Instance(key, is_next=True)
        private = on_trial(service)
        # A switch that died here may have left its own.
        self._end_second(key)
        self.backend.define_next(wanted, private, shared=False)
        self.backend.start(second)
        self._checker.ask_health(second, private)
        self._end_second(key)
        self.backend.define_next(wanted, service, shared=True)
        self.backend.start(second)
        self._checker.wait_accepting(second, service)

    def _check(self, instance: Instance) -> None:
        _, service = self._services[instance.key]
        self._checker.check(instance, service)

    # Not doing it

    def _give_up(self, error: AppbError, known: frozenset[Key], running: Sequence[str]) -> None:
        """Before the rename: take away what was tried; the old generation never stopped.

        But for apps whose state was put back, or must be: they are started again.
        """
        self._end_seconds()
        self._remember(error)
        why = self.tasks.no_way_back
        try:
            if self.before is not None and not why:
                apps = self.tasks.coming_back
                self._end_all(known, apps)
                self.tasks.restore(self.before, apps)
                self._start_all(self.before, running, {*apps, *self.tasks.going_back})
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
        raise UnhealthyError(
            f"generation {self.after.number} was not made current: {error.what}",
            kept=self._kept("runs on as before"),
            hint=error.hint or "appb history; appb logs APP",
        ) from error

    def _go_back(self, error: AppbError, running: Sequence[str], known: frozenset[Key]) -> None:
        """After the rename: the parent becomes current, and what runs follows."""
        self._remember(error)
        before = self.before
        if before is None or not self.context.gate.revert or before.number == self.after.number:
            pending.clear(self.context.layout)
            raise UnhealthyError(
                f"generation {self.after.number} is current, but {error.what}",
                kept="nothing was reverted",
                hint=error.hint or "appb status; appb logs APP",
            ) from error
        if why := self.tasks.no_way_back:
            pending.clear(self.context.layout)
            raise RevertFailedError(
                f"{error.what}; and there is no way back: {why}",
                kept=f"generation {self.after.number} is current",
                hint=error.hint or "appb status; appb logs APP",
            ) from error
        self.context.report.note(f"{error.what}; going back to generation {before.number}")
        try:
            everything = frozenset({*known, *self._services})
            self._aim_at(before)
            generations.activate(self.context.layout, before.number)
            self._end_all(everything, self.tasks.coming_back)
            self.tasks.restore(before, self.tasks.coming_back)
            steps = self._plan(
                self._observe(everything),
                everything,
                intended=_references(running),
                reverting=True,
            )
            self._settle(steps)
            self._end_seconds()
        except AppbError as second:
            raise RevertFailedError(
                f"{error.what}; and going back to generation {before.number} failed: {second.what}",
                kept=f"generation {generations.current_number(self.context.layout)} is current",
                hint=second.hint or "appb status; appb logs APP",
            ) from second
        pending.clear(self.context.layout)
        raise UnhealthyError(
            f"generation {self.after.number} was reverted: {error.what}",
            kept=self._kept("is current again and runs"),
            hint=error.hint or "appb history; appb logs APP",
        ) from error

    def _end_all(self, known: frozenset[Key], apps: Collection[AppName]) -> None:
        """End every service of apps, so that nobody writes to their state."""
        instances = [
            Instance(key, is_next)
            for key in sorted(known)
            for is_next in (True, False)
            if key.app in apps
        ]
        for instance, now in self.backend.observe(instances).items():
            if now.state is not State.ABSENT:
                self.context.report.step(f"stop {instance}")
                self.backend.stop(instance)

    def _start_all(
        self, generation: Generation, running: Sequence[str], apps: Collection[AppName]
    ) -> None:
        """Start those services of apps that were to run."""
        self._aim_at(generation)
        for key in plan.in_order(self._services):
            if key.app in apps and _name(key) in running:
                self.backend.start(Instance(key))

    def _end_seconds(self) -> None:
        seconds = [Instance(key, is_next=True) for key in self._services]
        for instance, now in self.backend.observe(seconds).items():
            if now.state is not State.ABSENT:
                self._end_second(instance.key)

    def _end_second(self, key: Key) -> None:
        self.backend.stop(Instance(key, is_next=True))
        self.backend.forget_next(key)

    def _remember(self, error: AppbError) -> None:
        if self.before is None or self.before.number != self.after.number:
            generations.record_outcome(
                self.context.layout, self.after, f"failed: {error.what.splitlines()[0]}"
            )

    def _kept(self, what: str) -> str:
        return f"generation {self.before.number} {what}" if self.before else "nothing ran before"


def _name(key: Key) -> str:
    return f"{key.app}/{key.service}"


def _references(names: Sequence[str]) -> list[Key]:
    return [plan.reference(name) for name in names]


def _intended(interrupted: Pending | None) -> list[Key]:
    return _references(interrupted.running) if interrupted else []
