"""What a switch lets services do that they could not before; said before it happens."""

from collections.abc import Iterator, Mapping

from appbundle.bundle import confinement
from appbundle.bundle.manifest import Manifest
from appbundle.layout import Layout
from appbundle.names import AppName, Version
from appbundle.store import versions
from appbundle.store.generations import Generation


def widenings(
    layout: Layout,
    before: Generation | None,
    after: Generation,
    told: Mapping[AppName, Manifest] | None = None,
) -> tuple[str, ...]:
    """Compare what the services of two generations may do.

    Args:
        told: Manifests of versions that are not on disk yet.

    Returns:
        A sentence for each opening that is new, sorted; those of apps that are new are all new.
    """
    found: list[str] = []
    for name in sorted({*after.serving, *after.configuration}):
        version = after.apps[name]
        old = before.apps.get(name) if before else None
        if old == version:
            continue
        manifest = (told or {}).get(name) or _read(layout, name, version)
        found += compare(None if old is None else _read(layout, name, old), manifest)
    return tuple(sorted(found))


def _read(layout: Layout, name: AppName, version: Version) -> Manifest | None:
    about = versions.read_about(layout, name, version)
    return None if about is None else about.manifest


def compare(before: Manifest | None, after: Manifest | None) -> Iterator[str]:
    """Say what a manifest opens that another does not."""
    if after is None:
        return
    had = dict(_openings(before)) if before else {}
    for who, entitlements in _openings(after):
        more = "also " if who in had else ""
        for phrase in confinement.words(entitlements - had.get(who, frozenset())):
            yield f"{after.name} {after.version}: {who} {more}{phrase}"
    for secret in sorted(_taken(after) - (_taken(before) if before else set())):
        yield f"{after.name} {after.version}: is told what is made for it of the secret {secret}"


def _taken(manifest: Manifest) -> set[str]:
    return {each.of for each in manifest.settings if each.secret and each.of}


def _openings(manifest: Manifest) -> Iterator[tuple[str, frozenset[str]]]:
    for service in manifest.services:
        yield f"service {service.name}", frozenset(service.entitlements)
    for task in manifest.tasks:
        yield f"task {task.when}", frozenset(task.entitlements)
