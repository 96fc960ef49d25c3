"""What a manifest may say of settings, templates, tasks and going back. docs/services.md."""

import ipaddress
import re
from collections.abc import Collection, Iterator

from appbundle.bundle import filling
from appbundle.bundle.service_rules import (
    command_problems,
    entitlement_problems,
    environment_problems,
)
from appbundle.bundle.services import Service
from appbundle.bundle.settings import Setting, Template
from appbundle.bundle.tasks import Rollback, Task
from appbundle.bundle.text import is_harmless
from appbundle.errors import ManifestError
from appbundle.names import escape, is_app_name

MAX_SETTINGS = 256
MAX_VALUE = 4096
"""Characters of one value."""

_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}", re.ASCII)
_INTEGER = re.compile(r"-?[0-9]{1,18}", re.ASCII)


def check_settings(
    settings: tuple[Setting, ...],
    templates: tuple[Template, ...],
    tasks: tuple[Task, ...],
    rollback: tuple[Rollback, ...],
) -> None:
    """Check every rule.

    Raises:
        ManifestError: The first that is broken, and by what.
    """
    if len(settings) > MAX_SETTINGS:
        raise ManifestError(f"more than {MAX_SETTINGS} settings")
    if len({each.name for each in settings}) != len(settings):
        raise ManifestError("two settings have the same name")
    if len({each.when for each in tasks}) != len(tasks):
        raise ManifestError("two tasks are for the same moment")
    if len({each.target for each in templates}) != len(templates):
        raise ManifestError("two templates have the same target")
    problems = [
        *(
            (f"setting {escape(each.name)}", p)
            for each in settings
            for p in _setting_problems(each)
        ),
        *(
            (f"template {escape(each.source)}", p)
            for each in templates
            for p in _path_problems(each)
        ),
        *((f"task {each.when}", p) for each in tasks for p in task_problems(each)),
        *(("rollback", p) for each in rollback for p in _rollback_problems(each)),
    ]
    for what, problem in problems:
        raise ManifestError(f"{what}: {problem}")


def check_references(
    services: tuple[Service, ...],
    settings: tuple[Setting, ...],
    templates: tuple[Template, ...],
    tasks: tuple[Task, ...],
    paths: Collection[str],
) -> None:
    """Check that texts name settings that exist and may be seen, and templates files.

    Args:
        paths: Of the bundle's files; only looked at if there are templates.

    Raises:
        ManifestError: The first that does not.
    """
    secrets = {each.name for each in settings if each.secret}
    known = {each.name for each in settings} | filling.BUILT_IN
    texts = [
        *((f"service {each.name}", filling.service_texts(each)) for each in services),
        *((f"task {each.when}", filling.task_texts(each)) for each in tasks),
    ]
    for where, found in texts:
        for text in found:
            for problem in filling.text_problems(text, known, secrets):
                raise ManifestError(f"{where}: {problem}")
    for path in (path for each in templates for path in (each.source, each.target)):
        if path not in paths:
            raise ManifestError(f"a template names a file that is not there: {escape(path)}")


def _setting_problems(setting: Setting) -> Iterator[str]:
    if not _NAME.fullmatch(setting.name):
        yield "not a name of small letters, digits and _"
    if setting.name in filling.BUILT_IN:
        yield "the name has a meaning of its own"
    if len(setting.help) > 1000 or not is_harmless(setting.help):
        yield "its help has control characters or is too long"
    if setting.secret and (setting.default or setting.type != "text" or setting.choices):
        yield "a secret is a text without default and choices"
    if setting.shared and not setting.secret:
        yield "only a secret is shared"
    if setting.of and (setting.shared or not _is_reference(setting.of)):
        yield f"not APP/SETTING of another app: {escape(setting.of)}"
    for value in (*setting.choices, *(() if setting.secret else (setting.default,))):
        why = value_problem(setting, value)
        # A text may be empty until somebody gives it a value.
        if why and not (setting.type == "text" and value == ""):
            yield f"{escape(value)}: {why}"


def _is_reference(text: str) -> bool:
    app, _, name = text.partition("/")
    return is_app_name(app) and bool(_NAME.fullmatch(name))


def value_problem(setting: Setting, value: str) -> str:
    """Why a text is no value of a setting; nothing if it is."""
    if len(value) > MAX_VALUE or not is_harmless(value):
        return "control characters, or too long"
    if setting.choices and value not in setting.choices:
        return f"not one of {', '.join(setting.choices)}"
    match setting.type:
        case "integer" if not _INTEGER.fullmatch(value):
            return "not an integer"
        case "boolean" if value not in ("true", "false"):
            return "neither true nor false"
        case "port" if not (value.isascii() and value.isdigit() and 1 <= int(value) <= 65_535):
            return "not a port from 1 to 65535"
        case "address" if not _is_address(value):
            return "not an IP address"
    return ""


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _path_problems(template: Template) -> Iterator[str]:
    for path in (template.source, template.target):
        if not is_harmless(path) or {"", ".", ".."} & set(path.split("/")):
            yield f"not a path in the bundle: {escape(path)}"


def task_problems(task: Task) -> Iterator[str]:
    """What is wrong with a task, settings filled in or not."""
    yield from command_problems(task.argv)
    yield from environment_problems(task.environment)
    yield from entitlement_problems(task.entitlements)
    if not 1 <= task.timeout_s <= 86_400:
        yield "the time limit is not between a second and a day"


def _rollback_problems(rollback: Rollback) -> Iterator[str]:
    if not 0 < rollback.below < 1 << 53:
        yield "below is not a release number"
    if len(rollback.reason) > 1000 or not is_harmless(rollback.reason):
        yield "the reason has control characters or is too long"
    if rollback.kind != "code" and not rollback.reason:
        yield "a reason is missing"
