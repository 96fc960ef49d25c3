"""`appb status`, `start`, `stop`, `restart`, `logs`: services as they are."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import msgspec

from appbundle.bundle.services import Service
from appbundle.errors import AppbError, NotFoundError, UnsupportedError
from appbundle.flows import configuration, keeper
from appbundle.flows.context import Context
from appbundle.flows.gate import Checker
from appbundle.names import AppName, Version, escape, parse_app_name
from appbundle.services import health, plan, users
from appbundle.services.model import ABSENT, Backend, Instance, Key, Seen, Wanted
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
    declared: dict[Key, tuple[Wanted, Service]]

    def chosen(self, references: Sequence[str]) -> list[Key]:
        """The services that are meant, in order: an app's name means all of it.

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
        return [key for key in plan.in_order(self.declared) if key in found]


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
    keys = services.chosen(references) if references else sorted(services.declared)
    instances = [Instance(key, second) for key in keys for second in (False, True)]
    seen = services.backend.observe(instances)
    found = []
    for instance in instances:
        now = seen.get(instance, ABSENT)
        if instance.is_next and now is ABSENT:
            continue
        wanted, service = services.declared[instance.key]
        found.append(
            Status(
                instance=instance,
                seen=now,
                current=wanted.version,
                health=_health(context, service, instance, now),
            )
        )
    return found


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
    """Start services in order, and wait until they are healthy; gives those that were meant."""
    with _changing(context, "start") as services:

        def act(key: Key) -> None:
            services.backend.start(Instance(key))
            _check(context, services, key)

        return _each(context, "start", services.chosen(references), act)


def stop(context: Context, references: Sequence[str]) -> list[Key]:
    """Stop services, those first that need others."""
    with _changing(context, "stop") as services:

        def act(key: Key) -> None:
            services.backend.stop(Instance(key))

        return _each(context, "stop", services.chosen(references)[::-1], act)


def restart(context: Context, references: Sequence[str]) -> list[Key]:
    """Restart services in order, one after the other, each until it is healthy."""
    with _changing(context, "restart") as services:

        def act(key: Key) -> None:
            services.backend.restart(Instance(key))
            _check(context, services, key)

        return _each(context, "restart", services.chosen(references), act)


def _each(context: Context, verb: str, keys: list[Key], act: Callable[[Key], None]) -> list[Key]:
    """Do something to services in turn; the first that fails ends it, and says what was done."""
    for position, key in enumerate(keys):
        context.report.step(f"{verb} {key}")
        try:
            act(key)
        except AppbError as error:
            done = ", ".join(map(str, keys[:position])) or "nothing else"
            left = ", ".join(map(str, keys[position + 1 :])) or "nothing"
            error.kept = f"{verb} was done before it to: {done}; not to: {left}"
            error.hint = error.hint or f"appb logs {key}"
            raise
    return keys


def _check(context: Context, services: _Services, key: Key) -> None:
    _, service = services.declared[key]
    Checker(context, services.backend).check(Instance(key), service)


def log_command(
    context: Context, references: Sequence[str], *, lines: int, follow: bool
) -> list[str]:
    """The program that shows what services have said; all by default."""
    services = _services(context)
    keys = services.chosen(references) if references else sorted(services.declared)
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
