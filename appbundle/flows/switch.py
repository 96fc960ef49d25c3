"""`appb switch`: another generation becomes current; forward, back, for one app or for all."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from appbundle.errors import ConflictError, NotFoundError
from appbundle.flows.consequences import Switched, foresee
from appbundle.flows.context import Context
from appbundle.names import OWN, AppName, BundleRef, Version
from appbundle.store import generations, listed, node
from appbundle.store.generations import Generation
from appbundle.system import files

if TYPE_CHECKING:
    from appbundle.bundle.manifest import Manifest
    from appbundle.flows.configuration import Wishes


Prepared = tuple[Generation, Path]


def switch(context: Context, refs: Sequence[BundleRef], *, dry_run: bool = False) -> Switched:
    """Make versions on disk current, in one new generation.

    Raises:
        NotFoundError: A version is not on disk.
    """
    wanted = {ref.name: generations.require_version(context.layout, ref) for ref in refs}
    reason = "switch " + " ".join(map(str, refs))
    if dry_run:
        return _switch_apps(context, wanted, reason, dry_run=True)
    with _changing(context):
        return _switch_apps(context, wanted, reason, dry_run=False)


def switch_previous(context: Context, *, dry_run: bool = False) -> Switched:
    """Go back to the recorded parent of the current generation; repeated, further back.

    Raises:
        NotFoundError: There is nothing to go back to, or it is gone.
    """
    return _in_lock_unless(dry_run, context, lambda: _previous(context, dry_run=dry_run))


def _previous(context: Context, *, dry_run: bool) -> Switched:
    current = generations.current(context.layout)
    known = generations.numbers(context.layout)
    if current is not None and current.parent not in (None, *known):
        raise NotFoundError(
            f"generation {current.parent}, the one before, is gone: a version of it was removed",
            hint="appb history shows which there are; appb switch --to N chooses one",
        )
    if current is None or current.parent is None:
        raise NotFoundError(
            "there is no generation before the current one",
            hint="appb history shows which there are; appb switch --to N chooses one",
        )
    return _switch_number(context, current, current.parent, dry_run=dry_run)


def switch_to(context: Context, number: int, *, dry_run: bool = False) -> Switched:
    """Make a generation current again, by its number.

    Raises:
        NotFoundError: It does not exist, or one of its versions is gone.
    """

    def act() -> Switched:
        return _switch_number(context, generations.current(context.layout), number, dry_run=dry_run)

    return _in_lock_unless(dry_run, context, act)


def switch_app_previous(context: Context, name: AppName, *, dry_run: bool = False) -> Switched:
    """Send one app back to the version that it had before, in a new generation.

    Raises:
        NotFoundError: The app is not part of the current generation, or had no other version.
    """

    def act() -> Switched:
        origin, version = _version_before(context, name)
        reason = f"switch --previous {name}"
        return _switch_apps(
            context, {name: version}, reason, dry_run=dry_run, origins={name: origin}
        )

    return _in_lock_unless(dry_run, context, act)


def _version_before(context: Context, name: AppName) -> tuple[int, Version]:
    """Find an app's version before the current one by following parents.

    Returns:
        The generation that had it, and the version.
    """
    layout = context.layout
    current = generations.current(layout)
    if current is None or name not in current.apps:
        raise NotFoundError(f"{name} is not part of the current generation", hint="appb list")
    here = current
    if name in current.origins:
        here = _read_ancestor(context, name, current.origins[name])
    while here.parent is not None:
        here = _read_ancestor(context, name, here.parent)
        version = here.apps.get(name)
        if version is not None and version != current.apps[name]:
            return here.origins.get(name, here.number), version
    raise NotFoundError(f"{name} had no version before {current.apps[name]}", hint="appb history")


def _read_ancestor(context: Context, name: AppName, number: int) -> Generation:
    try:
        return generations.read(context.layout, number)
    except NotFoundError as error:
        raise NotFoundError(
            f"what {name} was before is not known: generation {number} is gone, as a version of it "
            "was removed",
            hint=f"appb list shows what is on disk; then: appb switch {name}@VERSION",
        ) from error


@contextmanager
def _changing(context: Context) -> Iterator[None]:
    with node.changing(
        context.layout,
        purpose="switch",
        timeout_s=context.lock_timeout_s,
        waiting=context.waiting,
    ):
        try:
            yield
        except OSError as error:
            raise files.translate_os_error(error, "switching") from error


def _in_lock_unless(dry_run: bool, context: Context, act: Callable[[], Switched]) -> Switched:
    if dry_run:
        return act()
    with _changing(context):
        return act()


def _switch_number(
    context: Context, current: Generation | None, number: int, *, dry_run: bool
) -> Switched:
    target = generations.read(context.layout, number)
    _check_complete(context, target)
    planned = foresee(context, current, target)
    if dry_run:
        return planned
    if current is not None and current.number == number:
        _settle(context, current)
        return Switched(generation=current, outcome="unchanged", changes=())
    _announce(context, planned)
    _activate(context, current, target)
    return replace(planned, outcome="switched")


def _announce(context: Context, planned: Switched) -> None:
    """Name apps, new permissions and losses before it happens, whatever becomes of it.

    Raises:
        ConflictError: Something would be lost, and nobody has said that it may be.
    """
    for text in planned.lines:
        context.report.note(text)
    if planned.losses and not context.gate.accept_loss:
        raise ConflictError(
            planned.losses[0],
            hint="to go back all the same, say so: --accept-loss",
        )


def _check_complete(context: Context, target: Generation) -> None:
    missing = generations.missing_versions(context.layout, target)
    if missing:
        raise NotFoundError(
            f"generation {target.number} needs {', '.join(missing)}, which was removed",
            hint="install its bundle again, or choose another generation: appb history",
        )


def _switch_apps(
    context: Context,
    wanted: Mapping[AppName, Version],
    reason: str,
    *,
    dry_run: bool,
    origins: Mapping[AppName, int] | None = None,
) -> Switched:
    layout = context.layout
    before = generations.current(layout)
    apps = dict(before.apps) if before else {}
    changed = {name: version for name, version in wanted.items() if apps.get(name) != version}
    for name, version in sorted(changed.items()):
        generations.require_version(layout, BundleRef(name, version))
    if not changed:
        outcome = "planned" if dry_run else "unchanged"
        if not dry_run:
            _settle(context, before)
        return Switched(generation=before, outcome=outcome, changes=())
    generation = plan(context, apps | dict(wanted), reason, origins)
    if dry_run:
        return foresee(context, before, generation)
    return make_current(context, before, generation)


def plan(
    context: Context,
    apps: Mapping[AppName, Version],
    reason: str,
    origins: Mapping[AppName, int] | None = None,
    *,
    told: "Mapping[AppName, Manifest] | None" = None,
    wishes: "Wishes | None" = None,
) -> Generation:
    """Say what the next generation would be; nothing is written.

    Args:
        told: Manifests of versions that are not on disk yet.
        wishes: What shall differ of apps' settings.
    """
    before = generations.current(context.layout)
    traits = {
        name: _traits(context, before, name, version, told or {}) for name, version in apps.items()
    }
    exported = {name: each.commands for name, each in traits.items() if each.commands}
    planned = generations.plan(
        context.layout,
        apps=apps,
        reason=reason,
        by=context.by,
        created_at=context.now,
        serving=[name for name, each in traits.items() if each.serves],
        configured=[name for name, each in traits.items() if each.configured],
        origins=origins,
        exported=exported,
        appb=_launching_appb(context, apps) if exported else (),
    )
    if not planned.configuration:
        return planned
    # Not at the top: without settings a switch needs none of what settings need.
    from appbundle.flows import configuration

    return configuration.complete(context, before, planned, told=told or {}, wishes=wishes or {})


@dataclass(frozen=True, slots=True, kw_only=True)
class _Traits:
    """What a generation must know of an app's declaration.

    Args:
        serves: Whether it has services.
        configured: Whether it has settings, templates or tasks.
        commands: Its commands, by name.
    """

    serves: bool = False
    configured: bool = False
    commands: Mapping[str, Sequence[str]] = field(default_factory=dict)


def _traits(
    context: Context,
    before: Generation | None,
    name: AppName,
    version: Version,
    told: "Mapping[AppName, Manifest]",
) -> _Traits:
    """Look at an app's declaration, if its version changes."""
    if name in told:
        from appbundle.bundle import filling

        manifest = told[name]
        return _Traits(
            serves=bool(manifest.services),
            configured=filling.is_configured(manifest),
            commands=manifest.commands,
        )
    if before is not None and before.apps.get(name) == version:
        return _Traits(
            serves=name in before.serving,
            configured=name in before.configuration,
            commands=before.commands.get(name, {}),
        )
    found = listed.read(context.layout, name, version)
    if found is None:
        return _Traits()
    return _Traits(serves=found.serves, configured=found.configured, commands=found.commands)


def _launching_appb(context: Context, apps: Mapping[AppName, Version]) -> list[str]:
    """How commands start appb: the one that is an app beside them, or else as units do."""
    # Not at the top: few nodes have commands.
    from appbundle.services import own

    return [own.OWN_PROGRAM] if OWN in apps else own.lasting_command(context.layout)


def make_current(
    context: Context,
    before: Generation | None,
    generation: Generation,
    *,
    wishes: "Wishes | None" = None,
) -> Switched:
    """Write a planned generation, durably, and make it current."""
    stage = node.new_stage(context.layout)
    try:
        prepared = prepare(context, before, generation, stage, wishes=wishes)
        return activate_prepared(context, before, prepared)
    finally:
        files.remove_tree(stage)


def prepare(
    context: Context,
    before: Generation | None,
    generation: Generation,
    stage: Path,
    *,
    told: "Mapping[AppName, Manifest] | None" = None,
    trees: Mapping[AppName, Path] | None = None,
    wishes: "Wishes | None" = None,
) -> Prepared:
    """Write a planned generation into a stage, with all that it renders; then it is durable.

    Args:
        told: Manifests of versions that are not in their place yet.
        trees: Where these are.
        wishes: What shall differ of apps' settings.
    """
    directory = generations.prepare(generation, stage)
    if generation.configuration:
        from appbundle.flows import configuration

        generation = configuration.render(
            context,
            before,
            generation,
            directory,
            told=told or {},
            trees=trees or {},
            wishes=wishes or {},
        )
    generations.sync(directory)
    return generation, directory


def activate_prepared(
    context: Context,
    before: Generation | None,
    prepared: Prepared,
) -> Switched:
    """Number a durable generation and make it current."""
    generation, directory = prepared
    planned = foresee(context, before, generation, outcome="switched")
    _announce(context, planned)
    if before is not None and before.secrets:
        _keep_secrets(context, before, generation)
    generations.commit(context.layout, generation, directory)
    _activate(context, before, generation)
    return planned


def _keep_secrets(context: Context, before: Generation, after: Generation) -> None:
    """Keep secrets of apps that leave: their state stays, and may be worthless without them."""
    from appbundle.store import secrets

    for name in before.secrets.keys() - after.apps:
        values = {
            key: secrets.read(context.layout, before.number, name, key)
            for key in before.secrets[name]
        }
        secrets.keep(context.layout, name, values)


def _activate(context: Context, before: Generation | None, after: Generation) -> None:
    """Make a generation on disk current, with its services if it or the one before has any."""
    if any(each.serving or each.configuration for each in (before, after) if each is not None):
        # Not at the top: without services a switch needs none of what services need.
        from appbundle.flows import transition

        transition.go(context, before, after)
    else:
        generations.activate(context.layout, after.number)


def _settle(context: Context, current: Generation | None) -> None:
    """Have the services of what is current already run from it, whatever was interrupted."""
    if current is not None and (current.serving or current.configuration):
        _activate(context, current, current)
