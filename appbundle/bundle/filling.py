"""Settings' values in the texts of services and tasks: `{{ address | host }}:{{ port }}`.

The form is deliberately poor: a name between two pairs of braces, and what puts an IPv6 address
into brackets. So a manifest can
be checked, and a service be filled in, without the engine that renders templates.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping

import msgspec

from appbundle.bundle.manifest import Manifest
from appbundle.bundle.services import Health, Service
from appbundle.bundle.tasks import Task
from appbundle.bundle.text import host
from appbundle.errors import ManifestError
from appbundle.names import escape

BUILT_IN = frozenset({"app", "version", "state"})
"""What every text and template may name; no setting has these names."""

_PLACE = re.compile(r"\{\{ *([a-z][a-z0-9_]*) *(?:\| *(host) *)?\}\}", re.ASCII)


def names_settings(text: str) -> bool:
    """Whether something is to be filled in."""
    return "{{" in text


def is_configured(manifest: Manifest) -> bool:
    """Whether something of an app is made anew for each generation: it has settings or tasks."""
    texts = (text for each in manifest.services for text in service_texts(each))
    return bool(
        manifest.settings
        or manifest.templates
        or manifest.tasks
        or manifest.rollback
        or any(map(names_settings, texts))
    )


def text_problems(text: str, known: Collection[str], secrets: Collection[str]) -> Iterator[str]:
    """What is wrong with a text before it is filled in."""
    if names_settings(_PLACE.sub("", text)):
        yield f"not a setting's name between {{{{ and }}}}: {escape(text)}"
    for name, _ in _PLACE.findall(text):
        if name in secrets:
            yield f"the secret {name} would be seen by everybody: {escape(text)}"
        elif name not in known:
            yield f"there is no setting {escape(name)}: {escape(text)}"


def fill(text: str, values: Mapping[str, str]) -> str:
    """Put values into a text, once: what a value contains is never filled in."""
    try:
        return _PLACE.sub(lambda f: host(values[f[1]]) if f[2] else values[f[1]], text)
    except KeyError as error:
        raise ManifestError(f"there is no setting {error.args[0]}: {escape(text)}") from error


def service_texts(service: Service) -> Iterator[str]:
    """The texts of a service that may name settings."""
    yield from service.argv
    yield from service.environment.values()
    yield from (socket.listen for socket in service.sockets)
    if service.health is not None:
        yield from (service.health.http, service.health.tcp)


def task_texts(task: Task) -> Iterator[str]:
    """The texts of a task that may name settings."""
    yield from task.argv
    yield from task.environment.values()


def fill_service(service: Service, values: Mapping[str, str]) -> Service:
    """Give a service with every text filled in."""
    return msgspec.structs.replace(
        service,
        argv=tuple(fill(each, values) for each in service.argv),
        environment={key: fill(each, values) for key, each in service.environment.items()},
        sockets=tuple(
            msgspec.structs.replace(each, listen=fill(each.listen, values))
            for each in service.sockets
        ),
        health=_fill_health(service.health, values) if service.health else None,
    )


def _fill_health(health: Health, values: Mapping[str, str]) -> Health:
    return msgspec.structs.replace(
        health, http=fill(health.http, values), tcp=fill(health.tcp, values)
    )


def fill_task(task: Task, values: Mapping[str, str]) -> Task:
    """Give a task with every text filled in."""
    return msgspec.structs.replace(
        task,
        argv=tuple(fill(each, values) for each in task.argv),
        environment={key: fill(each, values) for key, each in task.environment.items()},
    )


def as_service(task: Task) -> Service:
    """Give a task in the form in which those who keep services take it."""
    return Service(
        name=f"task-{task.when}",
        kind="once",
        argv=task.argv,
        environment=task.environment,
        ready_timeout_s=task.timeout_s,
        entitlements=task.entitlements,
    )
