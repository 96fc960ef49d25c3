"""What it means that one generation follows another: said before it happens."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from appbundle.flows.context import Context
from appbundle.names import AppName, Version
from appbundle.store import commands
from appbundle.store.generations import Generation

if TYPE_CHECKING:
    from appbundle.bundle.manifest import Manifest


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What a switch means for one app; None where it is not part of a generation."""

    name: AppName
    before: Version | None
    after: Version | None

    def __str__(self) -> str:
        return f"{self.name}: {self.before or '(none)'} → {self.after or '(none)'}"


@dataclass(frozen=True, slots=True, kw_only=True)
class SettingChange:
    """What a switch means for one setting; None where it has its default.

    A secret is only said to be `(secret)` before and `(changed)` after.
    """

    app: AppName
    name: str
    before: str | None
    after: str | None

    def __str__(self) -> str:
        before, after = ("(default)" if v is None else v for v in (self.before, self.after))
        return f"{self.app} {self.name}: {before} → {after}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Switched:
    """The result of a switch.

    Args:
        generation: What is current now, or would be; None on a node that never had any.
        outcome: `switched`, `unchanged`, `installed` or `planned`.
        changes: The apps whose version differs from before.
        settings: Those that have another value, of apps that stay or come.
        widenings: What services may do that they could not before, a sentence each.
        losses: What is lost of what apps have written, a sentence each.
        commands: What can be called newly by name.
    """

    generation: Generation | None
    outcome: str
    changes: tuple[Change, ...]
    settings: tuple[SettingChange, ...] = ()
    widenings: tuple[str, ...] = ()
    losses: tuple[str, ...] = ()
    commands: tuple[str, ...] = ()

    @property
    def lines(self) -> tuple[str, ...]:
        """All of it that people should know before it happens."""
        changed = map(str, (*self.changes, *self.settings))
        called = [f"commands: {', '.join(self.commands)} (in /apps/bin)"] if self.commands else []
        return (*changed, *called, *self.widenings, *self.losses)


def foresee(
    context: Context,
    before: Generation | None,
    after: Generation,
    *,
    outcome: str = "planned",
    told: "Mapping[AppName, Manifest] | None" = None,
) -> Switched:
    """Say all that follows from making a generation current.

    Args:
        outcome: As of `Switched`.
        told: Manifests of versions that are not on disk yet.

    Raises:
        ConflictError: A release forbids to go back, or there is nothing to restore.
    """
    return Switched(
        generation=after,
        outcome=outcome,
        changes=tuple(changes(before.apps if before else {}, after.apps)),
        settings=_told_settings(before, after),
        widenings=_widenings(context, before, after, told),
        losses=losses(context, before, after, told),
        commands=_new_commands(before, after),
    )


def changes(
    before: Mapping[AppName, Version], after: Mapping[AppName, Version]
) -> Iterator[Change]:
    """The apps whose version differs; those that only one of both has come or go."""
    for name in sorted({*before, *after}):
        if before.get(name) != after.get(name):
            yield Change(name=name, before=before.get(name), after=after.get(name))


def setting_changes(before: Generation, after: Generation) -> Iterator[SettingChange]:
    """The settings whose value differs; of secrets, those that are others."""
    for app in sorted({*before.configuration, *after.configuration}):
        yield from _differences(app, before.given(app), after.given(app))
        for each in _differences(app, before.secrets.get(app, {}), after.secrets.get(app, {})):
            had = None if each.before is None else "(secret)"
            has = None if each.after is None else "(changed)" if had else "(secret)"
            yield replace(each, before=had, after=has)


def _differences(
    app: AppName, before: Mapping[str, str], after: Mapping[str, str]
) -> Iterator[SettingChange]:
    for name in sorted({*before, *after}):
        if before.get(name) != after.get(name):
            yield SettingChange(app=app, name=name, before=before.get(name), after=after.get(name))


def _told_settings(before: Generation | None, after: Generation) -> tuple[SettingChange, ...]:
    """The same, of apps that stay or come; of secrets only those that are replaced."""
    nothing = replace(after, configuration={}, settings={}, taken={}, secrets={})
    return tuple(
        each
        for each in setting_changes(before or nothing, after)
        if each.app in after.apps
        and (each.after == "(changed)" or "(secret)" not in (each.before, each.after))
    )


def losses(
    context: Context,
    before: Generation | None,
    after: Generation,
    told: "Mapping[AppName, Manifest] | None" = None,
) -> tuple[str, ...]:
    """Say what is lost of what apps have written, where a release goes back.

    Args:
        told: Manifests of versions that are not on disk yet.

    Raises:
        ConflictError: A release forbids to go back, or there is nothing to restore.
    """
    if before is None or not before.configuration:
        return ()
    from appbundle.flows import tasks

    return tasks.losses(context, before, after, told or {})


def _widenings(
    context: Context,
    before: Generation | None,
    after: Generation,
    told: "Mapping[AppName, Manifest] | None" = None,
) -> tuple[str, ...]:
    """Say what services of a generation may do that they could not before.

    Args:
        told: Manifests of versions that are not on disk yet.
    """
    if not (after.serving or after.configuration):
        return ()
    from appbundle.flows import permissions

    return permissions.widenings(context.layout, before, after, told)


def _new_commands(before: Generation | None, after: Generation) -> tuple[str, ...]:
    """The commands that a generation has and the one before has not, sorted."""
    had = commands.names(before.commands) if before else set()
    return tuple(sorted(commands.names(after.commands) - had))
