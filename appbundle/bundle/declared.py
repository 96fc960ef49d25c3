"""What a bundle declares of commands, services and state, as lines for whoever decides about it."""

import shlex
from collections.abc import Iterator

import msgspec

from appbundle.bundle import confinement
from appbundle.bundle.manifest import Manifest
from appbundle.bundle.services import Service, Socket
from appbundle.bundle.settings import Setting
from appbundle.bundle.tasks import Task

_SAID_OTHERWISE = frozenset({"name", "when", "argv", "entitlements"})


def declared(manifest: Manifest) -> Iterator[tuple[str, str]]:
    """Say everything that is not the default, in the manifest's order.

    Returns:
        What it is about, each once, and what is said of it: `service web may`, `opens ...`.
    """
    for name, argv in manifest.commands.items():
        yield f"command {name}", shlex.join(argv)
    for service in manifest.services:
        yield from _program(f"service {service.name}", service)
    for setting in manifest.settings:
        yield f"setting {setting.name}", _setting(setting)
    for template in manifest.templates:
        yield f"template for {template.target}", template.source
    for task in manifest.tasks:
        yield from _program(f"task {task.when}", task)
    for rule in manifest.rollback:
        yield f"going back below {rule.below}", ": ".join(filter(None, (rule.kind, rule.reason)))


def _program(title: str, program: Service | Task) -> Iterator[tuple[str, str]]:
    yield title, shlex.join(program.argv)
    for name, value in _changed(program):
        if name not in _SAID_OTHERWISE:
            yield f"{title} {name}", _text(value)
    if program.entitlements:
        yield f"{title} may", "; ".join(confinement.words(program.entitlements))


def _changed(struct: msgspec.Struct) -> Iterator[tuple[str, object]]:
    """The fields of a structure that are not the default."""
    names, defaults = struct.__struct_fields__, struct.__struct_defaults__
    for at, name in enumerate(names, len(defaults) - len(names)):
        value = getattr(struct, name)
        # The default of a dictionary is a function that makes an empty one.
        if value != {} and (at < 0 or value != defaults[at]):
            yield name, value


def _text(value: object) -> str:
    match value:
        case Socket():
            return value.listen
        case msgspec.Struct():
            return ", ".join(f"{name} {_text(each)}" for name, each in _changed(value))
        case dict():
            return shlex.join(f"{name}={text}" for name, text in value.items())
        case tuple():
            return " ".join(map(_word, value))
        case _:
            return str(value)


def _word(value: object) -> str:
    return shlex.quote(value) if isinstance(value, str) else _text(value)


def _setting(setting: Setting) -> str:
    kind = ", ".join(setting.choices) or setting.type
    secret = f"secret, made of {setting.of}" if setting.of else "secret"
    other = f", that of {setting.of}" if setting.of else ""
    value = secret if setting.secret else f"{setting.default or '(empty)'} ({kind}){other}"
    return ": ".join(filter(None, (value, setting.help)))
