"""From what should run and what does to stages of steps; nothing is done here.

The steps of a stage are of services that do not need one another: they are done at the same time.

A plan is made of what is seen and not of what was meant before, so the same function serves a
switch, its repetition after a crash, and the way back from a failed one.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from itertools import chain, zip_longest

from appbundle.bundle.services import Service
from appbundle.errors import UnsupportedError
from appbundle.names import AppName
from appbundle.services.model import ABSENT, Declared, Instance, Key, Seen, State, Wanted

Levels = Sequence[Sequence[Key]]
"""Services in the order of what they need; those of one level do not need one another."""


@dataclass(frozen=True, slots=True)
class Step:
    """One thing to do to a service."""

    key: Key

    def describe(self) -> str:
        """Say it in a few words."""
        return f"{type(self).__name__.lower()} {self.key}"


class StartNext(Step):
    """Start the new version beside the old one, on the same sockets, and wait for its health."""

    def describe(self) -> str:
        """Say it in a few words."""
        return f"start the new {self.key} beside the old one"


class StopNext(Step):
    """End the second instance: the lasting one serves again."""

    def describe(self) -> str:
        """Say it in a few words."""
        return f"stop the second {self.key}"


class Stop(Step):
    """End a service that is no longer part of the node."""


class Check(Step):
    """Wait for the health of a service."""


class Start(Check):
    """Start a service and wait for its health."""


class Restart(Check):
    """Stop and start a service; its sockets stay. Then wait for its health."""


class Reload(Check):
    """Let a service read its configuration again, and wait for its health."""


Stage = tuple[Step, ...]
"""Steps that are done at the same time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a transition does to services.

    Args:
        before: While the old generation is current; nothing is lost if one fails.
        ends: When the new one is: services that end before others, or they themselves, are declared
            anew.
        after: When these are; if one fails, the way back is planned anew.
        enable: Services that are new on this node: they are started at boot from now on.
        disable: Services that are no longer there.
        stay_stopped: Services that somebody had stopped, and that stay so.
        kept: Services that run on from an old version, as their bundle wants it.
    """

    before: tuple[Stage, ...] = ()
    ends: Stage = ()
    after: tuple[Stage, ...] = ()
    enable: tuple[Key, ...] = ()
    disable: tuple[Key, ...] = ()
    stay_stopped: tuple[Key, ...] = ()
    kept: tuple[Key, ...] = ()


def make(
    wanted: Sequence[Wanted],
    seen: Mapping[Instance, Seen],
    *,
    known: Collection[Key],
    stray: Collection[Key] = (),
    configurations: Mapping[tuple[Key, int], str],
    intended: Collection[Key] = (),
    moved: Collection[Key] = (),
    redeclared: Collection[Key] = (),
    unshared: Collection[Key] = (),
    reverting: bool = False,
) -> Plan:
    """Plan how a node comes to run what a generation wants.

    Args:
        wanted: The apps of the generation that shall be current.
        seen: Every instance of these apps' services and of those that are known.
        known: Services that this node had before: others are new, and are started.
        stray: Services that an interrupted transition may have started, or ended already.
        configurations: For a service and the generation that its process was started in, the
            digest of its configuration there.
        intended: Services that an interrupted transition meant to run, whatever they do now.
        moved: Services whose sockets are declared with other addresses than before: they cannot be
            shared, so what listens there ends first.
        redeclared: Services whose command, environment or secrets differ from before: no signal
            changes those of a process.
        unshared: Services whose sockets no second instance can have.
        reverting: On the way back: no second instances, for the new version is not to be had.

    Returns:
        Nothing but empty tuples if everything is as it should be.

    Raises:
        UnsupportedError: Services wait for each other in a circle.
    """
    services = {Key(w.app, s.name): (w, s) for w in wanted for s in w.services}
    levels = in_levels(services)
    before: dict[Key, list[Step]] = {}
    after: dict[Key, list[Step]] = {}
    stopped: list[Key] = []
    kept: list[Key] = []
    gone = sorted({*known, *stray} - services.keys())
    ends: list[Step] = [
        StopNext(key) for key in gone if seen.get(Instance(key, True), ABSENT).is_up
    ]
    ends += [Stop(key) for key in gone if seen.get(Instance(key), ABSENT).is_up]
    for key in chain.from_iterable(levels):
        steps = after.setdefault(key, [])
        app, service = services[key]
        now = seen.get(Instance(key), ABSENT)
        beside = seen.get(Instance(key, is_next=True), ABSENT).is_up
        if _is_stopped(now, key, known, intended):
            stopped += [key]
        elif service.kind == "once":
            steps += _once(key, now, known)
        elif not now.is_up:
            steps += [Start(key)]
        elif _is_right(app, key, now, configurations):
            steps += [Check(key)] if reverting or beside or now.state is State.STARTING else []
        elif service.change == "keep" and not reverting:
            kept += [key]
        elif key in moved:
            ends += [Stop(key)]
            steps += [Start(key)]
        elif _can_reload(app, service, now) and key not in redeclared:
            steps += [Reload(key)]
        else:
            if service.change == "overlap" and key not in unshared and not (reverting or beside):
                before[key] = [StartNext(key)]
            steps += [Restart(key)]
        steps += [StopNext(key)] if beside or key in before else []
    return Plan(
        before=tuple(_stages(levels, before)),
        ends=tuple(ends),
        after=tuple(_stages(levels, after)),
        enable=tuple(key for key in services if key not in known),
        disable=tuple(gone),
        stay_stopped=tuple(stopped),
        kept=tuple(kept),
    )


def _stages(levels: Levels, steps: Mapping[Key, Sequence[Step]]) -> Iterator[Stage]:
    """Level by level the first step of each service, then the second of each that has one."""
    for level in levels:
        for stage in zip_longest(*(steps.get(key, ()) for key in level)):
            yield tuple(step for step in stage if step is not None)


def _is_stopped(now: Seen, key: Key, known: Collection[Key], intended: Collection[Key]) -> bool:
    """Whether somebody has stopped a service, who is not to be contradicted."""
    if now.is_up or key not in known or key in intended:
        return False
    return now.state in (State.STOPPED, State.STOPPING, State.ABSENT)


def _can_reload(app: Wanted, service: Service, now: Seen) -> bool:
    return service.change == "reload" and now.version == app.version


def _once(key: Key, now: Seen, known: Collection[Key]) -> Iterator[Step]:
    """A service that runs to its end is started when it is new; else a timer or a person does."""
    if key not in known and not now.is_up:
        yield Start(key)


def _is_right(
    app: Wanted, key: Key, now: Seen, configurations: Mapping[tuple[Key, int], str]
) -> bool:
    """Whether a process runs from the wanted version, with the wanted configuration."""
    if now.version != app.version:
        return False
    if now.generation == app.generation:
        return True
    if now.generation is None:
        return not app.configuration
    return configurations.get((key, now.generation)) == app.configuration


def in_levels(services: Mapping[Key, Declared]) -> Levels:
    """Sort services so that each level needs, as `after` has it, only levels before it.

    Raises:
        UnsupportedError: They wait for each other in a circle.
    """
    sorter: TopologicalSorter[Key] = TopologicalSorter()
    for key, (_, service) in services.items():
        needed = (reference(each) for each in service.after)
        sorter.add(key, *(each for each in needed if each in services))
    try:
        sorter.prepare()
    except CycleError as error:
        circle = " → ".join(map(str, error.args[1]))
        raise UnsupportedError(f"services wait for each other in a circle: {circle}") from error
    levels = []
    while sorter:
        levels.append(sorted(sorter.get_ready()))
        sorter.done(*levels[-1])
    return levels


def reference(text: str) -> Key:
    """Read `APP` or `APP/SERVICE`, as a manifest's `after` has it; the manifest was checked."""
    app, _, name = text.partition("/")
    return Key(AppName(app), name or app)
