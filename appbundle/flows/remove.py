"""`appb remove`, `gc`, `pin`, `unpin`: what leaves a node, and what must not."""

import contextlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from appbundle.bundle.manifest import Manifest
from appbundle.errors import ConflictError, CorruptError, NotFoundError
from appbundle.flows import switch
from appbundle.flows.context import Context
from appbundle.layout import Layout
from appbundle.names import OWN, AppName, BundleRef, Version
from appbundle.store import (
    generations,
    listed,
    manifests,
    node,
    pins,
    removal,
    retention,
    secrets,
    settings,
    state,
    usage,
    versions,
)
from appbundle.store.generations import Generation
from appbundle.store.retention import Key, Policy, Verdict
from appbundle.system import files


@dataclass(frozen=True, slots=True, kw_only=True)
class Removed:
    """What a removal did.

    Args:
        versions: That are gone.
        generations: Numbers of the generations that named them, gone too. The newest stays: it
            keeps numbers from coming back.
        generation: What is current now; None if nothing ever was.
        purged: Whether the app's state was removed as well.
    """

    versions: tuple[BundleRef, ...]
    generations: tuple[int, ...]
    generation: int | None
    purged: bool


@contextmanager
def _changing(context: Context, purpose: str) -> Iterator[None]:
    with node.changing(
        context.layout, purpose=purpose, timeout_s=context.lock_timeout_s, waiting=context.waiting
    ):
        try:
            yield
        except OSError as error:
            raise files.translate_os_error(error, f"running {purpose}") from error


def remove(
    context: Context, ref: BundleRef, *, purge: bool = False, dry_run: bool = False
) -> Removed:
    """Remove one version, or an app with all its versions.

    Args:
        purge: Remove the app's state too; only with the whole app.

    Raises:
        NotFoundError: It is not installed (and, to purge, has no state either).
        ConflictError: It is current (one version), pinned, or a process runs from it.
    """
    if dry_run:
        return _plan_removal(context, ref, purge=purge)[0]
    with _changing(context, "remove"):
        plan, without = _plan_removal(context, ref, purge=purge)
        if without is not None:
            switch.make_current(context, generations.current(context.layout), without)
            # Its services have ended now; whoever still runs from it is somebody else.
            _check_unused(context.layout, _keys(plan))
        for number in plan.generations:
            removal.remove_generation(context.layout, number)
        for gone in plan.versions:
            assert gone.version is not None
            context.report.step(f"removing {gone}")
            _remove_version(context.layout, gone.name, gone.version)
        if purge:
            state.purge(context.layout, ref.name)
            secrets.purge(context.layout, ref.name, generations.numbers(context.layout))
        return plan


def _plan_removal(
    context: Context, ref: BundleRef, *, purge: bool
) -> tuple[Removed, Generation | None]:
    """Decide what goes, or refuse.

    Returns:
        What will have been done; and the generation without the app, if it is current now.
    """
    layout = context.layout
    going = _going(layout, ref, purge=purge)
    current, known = generations.current(layout), generations.every(layout)
    without = None
    _check_unpinned(layout, going)
    if ref.version is not None or current is None or ref.name not in current.serving:
        _check_unused(layout, going)
    if ref.version is None and current is not None and ref.name in current.apps:
        apps = {other: version for other, version in current.apps.items() if other != ref.name}
        current = without = switch.plan(context, apps, f"remove {ref.name}")
        known.append(without)
    number = current.number if current else None
    removed = Removed(
        versions=tuple(BundleRef(name, version) for name, version in sorted(going)),
        generations=tuple(retention.dead_generations(known, going, current=number)),
        generation=number,
        purged=purge,
    )
    return removed, without


def _going(layout: Layout, ref: BundleRef, *, purge: bool) -> set[Key]:
    """The versions that are meant, if they may be removed."""
    on_disk = listed.version_names(layout, ref.name)
    if ref.version is not None and purge:
        raise ConflictError(
            "--purge removes an app's state, which all its versions share",
            hint=f"appb remove {ref.name} --purge",
        )
    if ref.name == OWN and purge:
        raise ConflictError(
            f"{OWN} itself has no state; /var/lib/{OWN} is that of appb supervise",
            hint=f"appb remove {OWN}",
        )
    if ref.version is None and not on_disk and purge and state.exists(layout, ref.name):
        return set()
    if not on_disk or (ref.version is not None and ref.version not in on_disk):
        raise NotFoundError(f"{ref} is not installed", hint="appb list shows what is")
    if ref.version is not None and generations.current_version(layout, ref.name) == ref.version:
        raise ConflictError(
            f"{ref} is the current version",
            hint=f"appb switch --previous {ref.name}, or remove the whole app: "
            f"appb remove {ref.name}",
        )
    return {(ref.name, version) for version in ([ref.version] if ref.version else on_disk)}


def _keys(plan: Removed) -> set[Key]:
    return {(ref.name, ref.version) for ref in plan.versions if ref.version is not None}


def _check_unpinned(layout: Layout, going: set[Key]) -> None:
    for key in sorted(going & pins.pinned(layout)):
        raise ConflictError(f"{key[0]} {key[1]} is pinned", hint=f"appb unpin {key[0]}@{key[1]}")


def _check_unused(layout: Layout, going: set[Key]) -> None:
    for key in sorted(going & usage.versions_in_use(layout)):
        raise ConflictError(f"{key[0]} {key[1]} is in use by a process", hint="stop it first")


def _remove_version(layout: Layout, name: AppName, version: Version) -> None:
    state.remove_snapshot(layout, name, version)
    manifest = next((each[2] for each in _readable_manifests(layout, [(name, version)])), None)
    removal.remove_version(layout, name, version, manifest)


def _readable_manifests(
    layout: Layout, keys: Iterable[Key]
) -> Iterator[tuple[AppName, Version, Manifest]]:
    """The manifests of versions, one at a time.

    A damaged version must be removable too; its unshared objects are found with the pool's others.
    """
    for name, version in keys:
        with contextlib.suppress(CorruptError):
            yield name, version, manifests.read(layout, name, version)


@dataclass(frozen=True, slots=True, kw_only=True)
class Collected:
    """What `gc` did, or would do.

    Args:
        verdicts: One for each version, with its reason.
        generations: Numbers of generations that go.
        freed_bytes: What removing gives back: contents that nothing else shares.
        objects: Pool objects that nobody shares any more.
    """

    verdicts: tuple[Verdict, ...]
    generations: tuple[int, ...]
    freed_bytes: int
    objects: int


def collect(context: Context, policy: Policy, *, dry_run: bool = False) -> Collected:
    """Remove versions that are old, surplus and unused, and what only they held."""
    if dry_run:
        return _collect(context, policy, dry_run=True)
    with _changing(context, "gc"):
        return _collect(context, policy, dry_run=False)


def _collect(context: Context, policy: Policy, *, dry_run: bool) -> Collected:
    layout = context.layout
    current = generations.current(layout)
    everything = generations.every(layout)
    by_number = {each.number: each for each in everything}
    on_disk = {
        name: [(each.version, each.installed_at) for each in listed.versions(layout, name)]
        for name in listed.app_names(layout)
    }
    verdicts = retention.judge(
        on_disk,
        current=current,
        parent=by_number.get(current.parent) if current and current.parent else None,
        failed=retention.failed_versions(everything),
        pinned=pins.pinned(layout),
        in_use=usage.versions_in_use(layout),
        policy=policy,
        now=context.now,
    )
    going = [(each.name, each.version) for each in verdicts if not each.keep]
    dead = retention.dead_generations(
        everything, frozenset(going), current=current.number if current else None
    )
    freed = removal.exclusive_bytes(layout, _readable_manifests(layout, going))
    if not dry_run:
        for number in dead:
            removal.remove_generation(layout, number)
        for name, version in going:
            context.report.step(f"removing {name} {version}")
            _remove_version(layout, name, version)
    objects, object_bytes = removal.free_objects(layout, dry_run=dry_run)
    return Collected(
        verdicts=tuple(verdicts),
        generations=tuple(dead),
        freed_bytes=freed + object_bytes,
        objects=objects,
    )


def pin(context: Context, ref: BundleRef) -> BundleRef:
    """Keep a version (the current one by default) from `gc` and `remove`."""
    with _changing(context, "pin"):
        found = versions.find(
            context.layout, ref, current=generations.current_version(context.layout, ref.name)
        )
        pins.pin(context.layout, found.name, found.version)
        return BundleRef(found.name, found.version)


def unpin(context: Context, ref: BundleRef) -> BundleRef:
    """Let a version go again.

    Raises:
        NotFoundError: It was not pinned.
    """
    with _changing(context, "unpin"):
        version = ref.version or generations.current_version(context.layout, ref.name)
        if version is None or (ref.name, version) not in pins.pinned(context.layout):
            raise NotFoundError(f"{ref} is not pinned", hint="appb list shows what is")
        pins.unpin(context.layout, ref.name, version)
        return BundleRef(ref.name, version)


def gc_policy(context: Context, *, keep: int | None, older_than_s: int | None) -> Policy:
    """Complete what was asked for with the node's settings."""
    node_retention = settings.read_node_settings(context.layout).retention
    return Policy(
        keep=node_retention.keep if keep is None else keep,
        older_than_s=(
            node_retention.older_than_days * 86_400 if older_than_s is None else older_than_s
        ),
    )
