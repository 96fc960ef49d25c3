"""`appb set`, `get`, `unset`: what an administrator changes of an app, a new generation each."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from appbundle.bundle.manifest import Manifest
from appbundle.bundle.setting_rules import value_problem
from appbundle.bundle.settings import Setting
from appbundle.errors import NotFoundError, UsageError
from appbundle.flows import configuration, switch
from appbundle.flows.configuration import Wish
from appbundle.flows.consequences import Switched, foresee
from appbundle.flows.context import Context
from appbundle.names import AppName, Version, escape
from appbundle.store import generations, node, secrets
from appbundle.store.generations import Generation
from appbundle.system import files


@dataclass(frozen=True, slots=True, kw_only=True)
class Value:
    """A setting as it is.

    Args:
        setting: Its declaration.
        value: What it is; None for a secret that is not to be seen.
        source: `default`, `set`, `of` (another app's); of a secret also `made` (at random) and
            `kept` (from before the app was removed).
    """

    setting: Setting
    value: str | None
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Values:
    """What `get` says."""

    app: AppName
    version: Version
    values: tuple[Value, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Changed:
    """What `set` and `unset` did.

    Args:
        switched: The generation that is current now, or would be.
        changed: The settings whose value differs.
    """

    app: AppName
    switched: Switched
    changed: tuple[str, ...]


def get(
    context: Context, app: AppName, keys: Sequence[str] = (), *, reveal: bool = False
) -> Values:
    """Read an app's settings in the current generation.

    Args:
        keys: Which; all by default.
        reveal: Secrets too; only root can.

    Raises:
        NotFoundError: The app is not part of it, or has no such setting.
    """
    current, manifest = _current(context, app)
    chosen = _declared(manifest, keys) if keys else list(manifest.settings)
    return Values(
        app=app,
        version=current.apps[app],
        values=tuple(_value(context, current, app, each, reveal=reveal) for each in chosen),
    )


def _value(
    context: Context, current: Generation, app: AppName, setting: Setting, *, reveal: bool
) -> Value:
    if setting.secret:
        mark = current.secrets.get(app, {}).get(setting.name, "made 0")
        value = secrets.read(context.layout, current.number, app, setting.name) if reveal else None
        return Value(setting=setting, value=value, source=mark.split()[0])
    value = current.given(app).get(setting.name)
    if value is None:
        return Value(setting=setting, value=setting.default, source="default")
    source = "of" if setting.name in current.taken.get(app, {}) else "set"
    return Value(setting=setting, value=value, source=source)


def change(
    context: Context,
    app: AppName,
    values: Mapping[str, str],
    *,
    unset: Collection[str] = (),
    dry_run: bool = False,
) -> Changed:
    """Give settings other values, or their defaults again, in a new generation.

    Args:
        values: New ones.
        unset: Settings that go back to their defaults; secrets are made anew.
        dry_run: Only check.

    Raises:
        NotFoundError: The app is not part of the current generation, or has no such setting.
        UsageError: A value is none of its setting.
        ConflictError: The app cannot be run with these values.
        UnhealthyError: It does not become healthy with them; the old ones are back.
    """
    if dry_run:
        return _change(context, app, values, unset, dry_run=True)
    with node.changing(
        context.layout, purpose="set", timeout_s=context.lock_timeout_s, waiting=context.waiting
    ):
        try:
            return _change(context, app, values, unset, dry_run=False)
        except OSError as error:
            raise files.translate_os_error(error, f"changing settings of {app}") from error


def _change(
    context: Context,
    app: AppName,
    values: Mapping[str, str],
    unset: Collection[str],
    *,
    dry_run: bool,
) -> Changed:
    before, manifest = _current(context, app)
    wish = wish_of(context, before, manifest, values, unset=unset)
    named = list(dict.fromkeys([*values, *unset]))
    reason = " ".join(["unset" if unset else "set", app, *named])
    generation = switch.plan(context, before.apps, reason, wishes={app: wish})
    changed = tuple(key for key in named if _differs(before, generation, app, key))
    if not changed:
        outcome = "planned" if dry_run else "unchanged"
        return Changed(
            app=app,
            switched=Switched(generation=before, outcome=outcome, changes=()),
            changed=(),
        )
    if dry_run:
        configuration.check(context.layout, before, generation)
        switched = foresee(context, before, generation)
    else:
        switched = switch.make_current(context, before, generation, wishes={app: wish})
    return Changed(app=app, switched=switched, changed=changed)


def wish_of(
    context: Context,
    before: Generation | None,
    manifest: Manifest,
    values: Mapping[str, str],
    *,
    unset: Collection[str] = (),
    whole: bool = False,
) -> Wish:
    """Say what shall differ of an app's settings, if they can have these values.

    Args:
        values: Also of secrets; of those that have it already, nothing is to differ.
        unset, whole: As in `Wish`.

    Raises:
        NotFoundError: The app has no such setting.
        UsageError: A value is none of its setting.
    """
    app = AppName(manifest.name)
    declared = {each.name: each for each in _declared(manifest, [*values, *unset])}
    for key, value in values.items():
        if why := value_problem(declared[key], value):
            shown = "" if declared[key].secret else f" = {escape(value)}"
            raise UsageError(f"{app} {key}{shown}: {why}", hint=f"appb get {app}")
    return Wish(
        app=app,
        values={key: value for key, value in values.items() if not declared[key].secret},
        secrets={
            key: value
            for key, value in values.items()
            if declared[key].secret and not _has(context, before, app, key, value)
        },
        unset=unset,
        whole=whole,
    )


def _differs(before: Generation, after: Generation, app: AppName, key: str) -> bool:
    pairs = ((each.settings.get(app, {}), each.secrets.get(app, {})) for each in (before, after))
    (one, hidden), (two, other) = pairs
    return (one.get(key), hidden.get(key)) != (two.get(key), other.get(key))


def _has(context: Context, before: Generation | None, app: AppName, key: str, value: str) -> bool:
    """Whether a secret has been set to this value already."""
    if before is None or not before.secrets.get(app, {}).get(key, "").startswith("set "):
        return False
    return secrets.read(context.layout, before.number, app, key) == value


def _current(context: Context, app: AppName) -> tuple[Generation, Manifest]:
    current = generations.current(context.layout)
    if current is None or app not in current.apps:
        raise NotFoundError(f"{app} is not part of the current generation", hint="appb list")
    return current, configuration.manifest_of(context.layout, current, app, {})


def _declared(manifest: Manifest, keys: Sequence[str]) -> list[Setting]:
    by_name = {each.name: each for each in manifest.settings}
    for key in keys:
        if key not in by_name:
            raise NotFoundError(
                f"{manifest.name} {manifest.version} has no setting {escape(key)}",
                hint=f"appb get {manifest.name} shows which it has",
            )
    return [by_name[key] for key in dict.fromkeys(keys)]
