"""What a generation wants of each app: its declaration, with settings filled in and files rendered.

`complete` decides and reads, `render` writes into a generation that is prepared; `wanted` and
`digests` read what is on disk.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path

import msgspec

from appbundle.bundle import filling, taken
from appbundle.bundle.manifest import Manifest
from appbundle.bundle.service_rules import check_services
from appbundle.bundle.services import Service
from appbundle.bundle.setting_rules import task_problems, value_problem
from appbundle.bundle.settings import Setting
from appbundle.bundle.tasks import Task
from appbundle.errors import AppbError, ConflictError, CorruptError, ManifestError, NotFoundError
from appbundle.flows.context import Context
from appbundle.layout import Layout
from appbundle.names import AppName, Version, escape
from appbundle.services import users
from appbundle.services.model import Instance, Wanted
from appbundle.store import generations, rendered, secrets, state, templates, versions
from appbundle.store.generations import Generation
from appbundle.store.rendered import Output
from appbundle.system import process

SNAPSHOT = "APPB_SNAPSHOT"
"""What tells a snapshot or restore task where: a path, which is not there before a snapshot."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What shall differ of an app's settings.

    Args:
        values: Settings and their new values.
        secrets: The same of secrets.
        unset: Settings and secrets that go back to their defaults, or are made anew.
        whole: `values` are all: other settings that are no secrets go back to their defaults.
    """

    app: AppName
    values: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict)
    unset: Collection[str] = ()
    whole: bool = False


Wishes = Mapping[AppName, Wish]
Told = Mapping[AppName, Manifest]


# What a generation will have -----------------------------------------------------------------


def complete(
    context: Context,
    before: Generation | None,
    generation: Generation,
    *,
    told: Told,
    wishes: Wishes,
) -> Generation:
    """Give a planned generation its settings: those of before, as far as versions declare them.

    An app that goes back by itself gets those that it had then.

    Args:
        told: Manifests of versions that are not on disk yet.
        wishes: What shall differ.
    """
    layout = context.layout
    manifests = {
        name: manifest_of(layout, generation, name, told) for name in generation.configuration
    }
    settings: dict[AppName, dict[str, str]] = {}
    marks: dict[AppName, dict[str, str]] = {}
    for name, manifest in manifests.items():
        old = _origin(layout, before, generation, name)
        mine = wishes.get(name) or Wish(app=name)
        had = old.settings.get(name, {}) if old and not mine.whole else {}
        settings[name] = _keep_valid(context, manifest, had | dict(mine.values), mine.unset)
        had_secrets = old.secrets.get(name, {}) if old else {}
        marks[name] = dict(_mark_secrets(layout, generation, manifest, had_secrets, mine))
    return replace(
        generation,
        settings={name: found for name, found in settings.items() if found},
        taken=taken.take(manifests, settings),
        secrets=_mark_shared(manifests, marks),
    )


def manifest_of(layout: Layout, generation: Generation, name: AppName, told: Told) -> Manifest:
    """What an app's version in a generation declares, without its tables.

    Raises:
        CorruptError: It is gone.
    """
    return manifest_at(layout, name, generation.apps[name], told)


def manifest_at(layout: Layout, name: AppName, version: Version, told: Told) -> Manifest:
    """The same of a version.

    Raises:
        CorruptError: It is gone.
    """
    if name in told and told[name].version == version:
        return told[name]
    about = versions.read_about(layout, name, version)
    if about is None:
        raise CorruptError(f"{name} {version} is gone", hint="appb verify")
    return about.manifest


def _origin(
    layout: Layout, before: Generation | None, generation: Generation, name: AppName
) -> Generation | None:
    """The generation whose settings an app goes on with."""
    came_from = generation.origins.get(name)
    if before is None or came_from is None or before.origins.get(name) == came_from:
        return before
    try:
        return generations.read(layout, came_from)
    except NotFoundError:
        return before


def _keep_valid(
    context: Context, manifest: Manifest, given: Mapping[str, str], unset: Collection[str]
) -> dict[str, str]:
    declared = {each.name: each for each in manifest.settings if not each.secret}
    kept = {}
    for key, value in sorted(given.items()):
        if key in unset:
            continue
        why = value_problem(declared[key], value) if key in declared else "it has no such setting"
        if why:
            context.report.note(
                f"{manifest.name} {manifest.version}: {key} = {value} is dropped: {why}"
            )
        else:
            kept[key] = value
    return kept


def _mark_secrets(
    layout: Layout, generation: Generation, manifest: Manifest, had: Mapping[str, str], wish: Wish
) -> Iterator[tuple[str, str]]:
    names = [each.name for each in manifest.settings if each.secret]
    kept = secrets.kept(layout, wish.app) if names else {}
    for name in names:
        if name in wish.secrets:
            yield name, f"set {generation.number}"
        elif name in had and name not in wish.unset:
            yield name, had[name]
        elif name in kept and name not in wish.unset:
            yield name, f"kept {generation.number}"
        else:
            yield name, f"made {generation.number}"


def _mark_shared(
    manifests: Mapping[AppName, Manifest], marks: dict[AppName, dict[str, str]]
) -> dict[AppName, dict[str, str]]:
    """Mark the secrets that are made of other apps' ones, as long as nobody has set them."""
    shared = {
        f"{name}/{each.name}": marks[name][each.name]
        for name, manifest in manifests.items()
        for each in manifest.settings
        if each.shared
    }
    for name, manifest in manifests.items():
        for each in manifest.settings:
            if each.secret and each.of in shared and not marks[name][each.name].startswith("set "):
                marks[name][each.name] = f"of {shared[each.of]}"
    return {name: found for name, found in marks.items() if found}


def values_of(manifest: Manifest, given: Mapping[str, str]) -> dict[str, str]:
    """Every setting's text but of secrets, and what else texts may name."""
    return {
        **{s.name: given.get(s.name, s.default) for s in manifest.settings if not s.secret},
        "app": manifest.name,
        "version": manifest.version,
        "state": f"/var/lib/{manifest.name}",
    }


def _typed(setting: Setting, text: str) -> str | int | bool:
    """A setting as templates have it."""
    match setting.type:
        case "integer" | "port":
            return int(text)
        case "boolean":
            return text == "true"
        case _:
            return text


# Writing it ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class _Part:
    """One app's part of a generation in the making."""

    name: AppName
    manifest: Manifest
    tree: Path
    given: Mapping[str, str]
    marks: Mapping[str, str]
    secrets: Mapping[str, str]


def render(
    context: Context,
    before: Generation | None,
    generation: Generation,
    directory: Path,
    *,
    told: Told,
    trees: Mapping[AppName, Path],
    wishes: Wishes,
) -> Generation:
    """Write what a planned generation has of settings, secrets and files; gives it with digests.

    Args:
        directory: The generation in the making, not durable yet.
        trees: Where versions are that are not in their place yet.

    Raises:
        AppbError: A template or a text does not fit the settings; nothing counts.
    """
    layout = context.layout
    previous = layout.generations / str(before.number) if before else None
    digests: dict[AppName, str] = {}

    @cache
    def secrets_of(name: AppName) -> dict[str, str]:
        manifest = manifest_of(layout, generation, name, told)
        wish = wishes.get(name) or Wish(app=name)
        own = _secret_values(layout, before, generation, wish)
        return own | {
            each.name: secrets.make_of(secrets_of(AppName(owner))[key], name)
            for each in manifest.settings
            for owner, _, key in [each.of.partition("/")]
            if each.secret and each.name not in own
        }

    for name in generation.configuration:
        if before and previous and _is_same(before, generation, name):
            rendered.link(directory, previous, name)
            digests[name] = before.configuration[name]
            continue
        part = _Part(
            name=name,
            manifest=manifest_of(layout, generation, name, told),
            tree=trees.get(name, layout.version(name, generation.apps[name])),
            given=generation.given(name),
            marks=generation.secrets.get(name, {}),
            secrets=secrets_of(name),
        )
        digests[name] = _render_app(context, part, directory, previous)
    done = replace(generation, configuration=digests)
    generations.record(done, directory)
    return done


def _is_same(before: Generation, after: Generation, name: AppName) -> bool:
    if not before.configuration.get(name) or before.apps.get(name) != after.apps[name]:
        return False
    return before.given(name) == after.given(name) and (
        before.secrets.get(name) == after.secrets.get(name)
    )


def _secret_values(
    layout: Layout, before: Generation | None, generation: Generation, wish: Wish
) -> dict[str, str]:
    """An app's secrets, but for those that are to be made of other apps' ones."""
    name = wish.app
    old = _origin(layout, before, generation, name)
    had = old.secrets.get(name, {}) if old else {}
    found = {}
    for key, mark in generation.secrets.get(name, {}).items():
        if key in wish.secrets:
            found[key] = wish.secrets[key]
        elif old is not None and had.get(key) == mark:
            found[key] = secrets.read(layout, old.number, name, key)
        elif mark.startswith("kept "):
            found[key] = secrets.kept(layout, name)[key]
        elif not mark.startswith("of "):
            found[key] = secrets.make()
    return found


def _render_app(context: Context, part: _Part, directory: Path, previous: Path | None) -> str:
    services, tasks = fill(part.manifest, part.given)
    outputs = _outputs(part)
    record = rendered.encode(services, tasks, sorted(part.secrets))
    owner = None
    if any(each.is_private for each in outputs) and os.geteuid() == 0:
        users.ensure(context.layout, part.name)
        owner = users.number(context.layout, part.name)
    secrets.write(directory, part.name, part.secrets)
    rendered.write(directory, part.name, record, outputs, owner=owner, previous=previous)
    return _digest(part, record, outputs)


def fill(
    manifest: Manifest, given: Mapping[str, str]
) -> tuple[tuple[Service, ...], tuple[Task, ...]]:
    """Fill in an app's services and tasks, and check once more what they have become.

    Raises:
        ConflictError: With these settings they are none that could be run.
    """
    values = values_of(manifest, given)
    try:
        services = tuple(filling.fill_service(each, values) for each in manifest.services)
        check_services(manifest.name, services, filled=True)
        tasks = tuple(_with_place(manifest, filling.fill_task(t, values)) for t in manifest.tasks)
        for task in tasks:
            for problem in task_problems(task):
                raise ManifestError(f"task {task.when}: {problem}")
    except ManifestError as error:
        raise ConflictError(
            f"{manifest.name} {manifest.version} cannot have these settings: {error.what}",
            hint=f"appb get {manifest.name}",
        ) from error
    return services, tasks


def check(
    layout: Layout, before: Generation | None, after: Generation, *, told: Told | None = None
) -> None:
    """Fill in what differs in a planned generation, and write nothing.

    Args:
        told: Manifests of versions that are not on disk yet.

    Raises:
        ConflictError: As `fill`.
    """
    for name in after.configuration:
        if before is None or not _is_same(before, after, name):
            fill(manifest_of(layout, after, name, told or {}), after.given(name))


def _with_place(manifest: Manifest, task: Task) -> Task:
    if task.when == "migrate":
        return task
    place = state.snapshot_path(
        AppName(manifest.name), Version(manifest.version), complete=task.when == "restore"
    )
    return msgspec.structs.replace(task, environment={**task.environment, SNAPSHOT: place})


def _outputs(part: _Part) -> list[Output]:
    manifest = part.manifest
    typed: dict[str, str | int | bool] = dict(values_of(manifest, part.given))
    for setting in manifest.settings:
        if not setting.secret:
            typed[setting.name] = _typed(setting, str(typed[setting.name]))
    texts = [(each.source, _read(part, each.source)) for each in manifest.templates]
    try:
        found = templates.render(texts, typed, part.secrets)
    except templates.TemplateError as error:
        raise ConflictError(
            f"{manifest.name} {manifest.version} cannot have these settings: {error.what}",
            hint=f"appb get {manifest.name}",
        ) from error
    return [
        Output(each.target, result.text.encode("utf-8", "surrogateescape"), result.is_private)
        for each, result in zip(manifest.templates, found, strict=True)
    ]


def _read(part: _Part, source: str) -> str:
    """Read a template: a file of a version, which holds no link that leads elsewhere."""
    try:
        return (part.tree / source).read_text(errors="surrogateescape")
    except OSError as error:
        raise CorruptError(
            f"{part.name} {part.manifest.version}: {escape(source)} cannot be read",
            hint="appb verify",
        ) from error


def _digest(part: _Part, record: bytes, outputs: Sequence[Output]) -> str:
    """Digest all that services see; of what holds a secret only what it was made of."""
    found = hashlib.sha256(record)
    sources = {each.target: _read(part, each.source) for each in part.manifest.templates}
    for each in outputs:
        if each.is_private:
            made_of = json.dumps([sources[each.target], sorted(part.given.items())]).encode()
        else:
            made_of = each.content
        found.update(f"\n{each.target} {hashlib.sha256(made_of).hexdigest()}".encode())
    found.update(json.dumps(sorted(part.marks.items())).encode())
    return found.hexdigest()


# Reading it ------------------------------------------------------------------------------------


def wanted(layout: Layout, generation: Generation) -> tuple[Wanted, ...]:
    """Read what a generation's serving apps want, settings filled in."""
    found = (wanted_of(layout, generation, name) for name in generation.serving)
    return tuple(each for each in found if each is not None)


def wanted_of(layout: Layout, generation: Generation, name: AppName) -> Wanted | None:
    """The same of one app, which may have nothing but tasks; None if it is not on disk."""
    version, number = generation.apps[name], generation.number
    digest = generation.configuration.get(name, "")
    if not digest:
        about = versions.read_about(layout, name, version)
        if about is None:
            return None
        return Wanted(
            app=name, version=version, generation=number, services=about.manifest.services
        )
    filled = rendered.read(layout, number, name)
    return Wanted(
        app=name,
        version=version,
        generation=number,
        services=filled.services,
        overlays=tuple(rendered.overlays(layout, number, name)),
        configuration=digest,
        secrets=filled.secrets,
        tasks=filled.tasks,
    )


def digests(
    layout: Layout, which: Collection[tuple[AppName, int | None]]
) -> dict[tuple[AppName, int | None], str]:
    """The digests of what was rendered for apps in generations that are on disk."""
    found: dict[tuple[AppName, int | None], str] = {}
    for app, number in which:
        try:
            generation = generations.read(layout, number) if number is not None else None
        except NotFoundError:
            continue
        if generation is not None:
            found[app, number] = generation.configuration.get(app, "")
    return found


def ask(layout: Layout, instance: Instance, argv: Sequence[str], timeout_s: float) -> str:
    """Run a program inside a running instance; gives why it failed, or nothing."""
    key = instance.key
    command = [sys.executable, "-I", "-m", "appbundle", "--root", str(layout.root), "exec"]
    if instance.is_next:
        command.append("--next")
    try:
        process.run(
            [*command, f"{key.app}/{key.service}", "--", *argv],
            environment=process.basic_environment(os.environ),
            timeout_s=timeout_s,
            title=argv[0],
        )
    except AppbError as error:
        return error.what
    return ""
