"""`appb status`, `start`, `stop`, `restart`, `logs`: services as they are."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain

import msgspec

from appbundle.bundle.services import Service
from appbundle.errors import AppbError, NotFoundError, UnsupportedError
from appbundle.flows import configuration, keeper, together
from appbundle.flows.context import Context
from appbundle.flows.gate import Checker
from appbundle.names import AppName, Version, escape, parse_app_name
from appbundle.services import health, plan, users
from appbundle.services.model import ABSENT, Backend, Declared, Instance, Key, Seen
from appbundle.services.plan import Levels
from appbundle.store import generations, node, versions


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """One instance of a service.

    Args:
        instance: Which.
        seen: What it does.
        current: The version that is current.
        health: `healthy`, `unhealthy: …`, or `unknown` if it is not up or cannot be asked.
    """

    instance: Instance
    seen: Seen
    current: Version
    health: str

    @property
    def is_stale(self) -> bool:
        """Whether its process runs from another version than the current one."""
        return self.seen.version not in (None, self.current)


@dataclass(frozen=True, slots=True)
class _Services:
    """What the current generation declares."""

    backend: Backend
    declared: dict[Key, Declared]

    def chosen(
        self, references: Sequence[str], by_default: Callable[[Service, Seen], bool]
    ) -> Levels:
        """The services that are meant, in order: an app's name means all of it.

        Args:
            by_default: Whether a service that does this is meant, if none is named.

        Raises:
            NotFoundError: There is no such service.
        """
        if references:
            found = self.named(references)
        else:
            seen = self.backend.observe([Instance(key) for key in self.declared])
            found = {
                key
                for key, (_, each) in self.declared.items()
                if by_default(each, seen[Instance(key)])
            }
        levels = ([key for key in level if key in found] for level in plan.in_levels(self.declared))
        return [level for level in levels if level]

    def named(self, references: Sequence[str]) -> set[Key]:
        """The services that are named.

        Raises:
            NotFoundError: There is no such service.
        """
        found: set[Key] = set()
        for text in references:
            name, _, service = text.partition("/")
            app = parse_app_name(name)
            keys = [key for key in self.declared if key.app == app and service in ("", key.service)]
            if not keys:
                raise NotFoundError(
                    f"the current generation has no service {escape(text)}",
                    hint="appb status shows which there are",
                )
            found.update(keys)
        return found

    def check(self, context: Context, instances: Sequence[Instance]) -> None:
        """Wait until instances are healthy."""
        checked = ((each, self.declared[each.key][1]) for each in instances)
        Checker(context, self.backend).check(*checked)

    def say_what_runs(self, keys: Sequence[Key]) -> str:
        """Which of some services run, and which do not."""
        seen = self.backend.observe([Instance(key) for key in keys])
        runs = [str(key) for key in keys if seen[Instance(key)].is_up]
        others = [str(key) for key in keys if not seen[Instance(key)].is_up]
        return f"runs: {', '.join(runs) or 'none'}; does not run: {', '.join(others) or 'none'}"


def _services(context: Context) -> _Services:
    backend = keeper.find(context.layout)
    if backend is None:
        raise UnsupportedError(
            "nobody keeps services running on this node",
            hint="it needs systemd, or: appb supervise",
        )
    current = generations.current(context.layout)
    wanted = configuration.wanted(context.layout, current) if current else ()
    return _Services(backend, {Key(w.app, s.name): (w, s) for w in wanted for s in w.services})


def status(context: Context, references: Sequence[str] = ()) -> list[Status]:
    """Look at services, and ask those that run for their health, once.

    Args:
        references: `APP` or `APP/SERVICE`; all by default.

    Raises:
        NotFoundError: There is no such service.
    """
    services = _services(context)
    keys = sorted(services.named(references) if references else services.declared)
    instances = [Instance(key, second) for key in keys for second in (False, True)]
    seen = services.backend.observe(instances)
    there = [each for each in instances if not each.is_next or seen[each] is not ABSENT]
    answers: dict[Instance, str] = {}

    def ask(instance: Instance) -> None:
        _, service = services.declared[instance.key]
        answers[instance] = _health(context, service, instance, seen[instance])

    for some in together.portions(there):
        together.on_each(ask, some)
    return [
        Status(
            instance=each,
            seen=seen[each],
            current=services.declared[each.key][0].version,
            health=answers[each],
        )
        for each in there
    ]


def _health(context: Context, service: Service, instance: Instance, now: Seen) -> str:
    if service.health is None or not now.is_up or instance.is_next:
        return "unknown"
    quick = msgspec.structs.replace(service.health, timeout_s=min(service.health.timeout_s, 2))
    verdict = health.probe(
        quick,
        ask=lambda argv, timeout_s: configuration.ask(context.layout, instance, argv, timeout_s),
    )
    return "healthy" if verdict.healthy else f"unhealthy: {verdict.why}"


def start(context: Context, references: Sequence[str]) -> list[Key]:
    """Start services, those first that others need, and wait until all are healthy.

    Args:
        references: `APP` or `APP/SERVICE`; by default what a boot starts.

    Returns:
        Those that were meant.
    """
    with _changing(context, "start") as services:

        def act(instances: Sequence[Instance]) -> None:
            services.backend.start(*instances)
            services.check(context, instances)

        meant = services.chosen(references, lambda each, now: now.enabled and not each.every)
        return _by_level(context, services, "start", meant, act)


def stop(context: Context, references: Sequence[str]) -> list[Key]:
    """Stop services, all by default, those first that need others."""
    with _changing(context, "stop") as services:

        def act(instances: Sequence[Instance]) -> None:
            services.backend.stop(*instances)

        meant = services.chosen(references, lambda each, now: True)
        return _by_level(context, services, "stop", meant[::-1], act)


def restart(context: Context, references: Sequence[str]) -> list[Key]:
    """Restart services, by default all that run; as `start` otherwise."""
    with _changing(context, "restart") as services:

        def act(instances: Sequence[Instance]) -> None:
            services.backend.restart(*instances)
            services.check(context, instances)

        meant = services.chosen(references, lambda each, now: now.is_up and each.kind == "long")
        return _by_level(context, services, "restart", meant, act)


def _by_level(
    context: Context,
    services: _Services,
    verb: str,
    levels: Levels,
    act: Callable[[Sequence[Instance]], None],
) -> list[Key]:
    """Do something to services; what fails ends it, and says what runs then."""
    meant = list(chain.from_iterable(levels))
    for level in levels:
        for keys in together.portions(level):
            for key in keys:
                context.report.step(f"{verb} {key}")
            try:
                act([Instance(key) for key in keys])
            except AppbError as error:
                error.kept = services.say_what_runs(meant)
                error.hint = error.hint or f"appb logs {keys[0]}"
                raise
    return meant


def log_command(
    context: Context, references: Sequence[str], *, lines: int, follow: bool
) -> list[str]:
    """The program that shows what services have said; all by default."""
    services = _services(context)
    keys = sorted(services.named(references) if references else services.declared)
    if not keys:
        raise NotFoundError("no app of this node has services", hint="appb list")
    return services.backend.log_command(keys, lines=lines, follow=follow)


@contextmanager
def _changing(context: Context, purpose: str) -> Iterator[_Services]:
    with node.changing(
        context.layout, purpose=purpose, timeout_s=context.lock_timeout_s, waiting=context.waiting
    ):
        yield _services(context)


def declared(context: Context, key: Key, version: Version) -> Service:
    """What a version of an app, not always the current one, declares of a service.

    Raises:
        NotFoundError: It is not installed any more, or has no such service.
    """
    about = versions.read_about(context.layout, key.app, version)
    for service in about.manifest.services if about else ():
        if service.name == key.service:
            return service
    raise NotFoundError(f"{key.app} {version} declares no service {key.service}")


def user_id(context: Context, app: AppName) -> int:
    """The number of the user that an app's services run as."""
    return users.number(context.layout, app)
