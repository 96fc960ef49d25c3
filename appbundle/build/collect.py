"""From a recipe to a tree: each source adds its part, then what is excluded goes."""

import os
import platform
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from appbundle.build.globs import compile_globs
from appbundle.build.inside import resolve, resolve_parent
from appbundle.build.lock import Lock, LockedSource, digest_request
from appbundle.build.recipe import MOUNT_FILES, Recipe, Request
from appbundle.build.sources.base import Added, Component, Pin, Report, Site
from appbundle.errors import BuildError, UnsupportedError
from appbundle.system import files

__all__ = ["Collected", "Component", "collect", "find_cache"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Collected:
    """What a tree was made from.

    Args:
        lock: All inputs; equal to the lock that was given if nothing had to be decided.
        components: For the bill of materials, in the order of the sources.
        moved_on: Some inputs are newer than the lock that was given; a recipe may allow that.
    """

    lock: Lock
    components: tuple[Component, ...]
    moved_on: bool


def find_cache(environment: Mapping[str, str]) -> Path:
    """Where downloads are kept: APPB_CACHE, or `appb` in the user's cache directory."""
    if chosen := environment.get("APPB_CACHE"):
        return Path(chosen)
    if base := environment.get("XDG_CACHE_HOME"):
        return Path(base) / "appb"
    return Path(environment.get("HOME", "/root")) / ".cache/appb"


def collect(
    recipe: Recipe,
    lock: Lock | None,
    tree: Path,
    *,
    cache: Path,
    report: Report,
    update_lock: bool,
) -> Collected:
    """Fill an empty directory with everything that a recipe asks for.

    Args:
        recipe: One release.
        lock: What to take; None if the recipe has none yet.
        tree: Exists and is empty; beside it sources work.
        cache: For downloads; made if missing.
        report: Whom to tell.
        update_lock: Take the newest of everything, whatever the lock says.

    Raises:
        BuildError: The lock is for something else, or an input is missing or different.
        UnsupportedError: The recipe is for another architecture.
    """
    _check_architecture(recipe, lock)
    cache.mkdir(parents=True, exist_ok=True)
    locked = None if lock is None or update_lock else _match(recipe, lock)
    added = []
    for at, request in enumerate(recipe.sources):
        pins = None if locked is None else locked[at]
        added.append(_add(request, pins, recipe, tree, cache, report))
    report.step("leaving out what is excluded")
    exclude(tree, recipe)
    make_mount_points(tree, recipe)
    return Collected(
        lock=_lock(recipe, added),
        components=tuple(each for one in added for each in one.components),
        moved_on=any(one.moved_on for one in added),
    )


def _check_architecture(recipe: Recipe, lock: Lock | None) -> None:
    here = platform.machine()
    wanted = recipe.requires.architecture
    if wanted not in ("any", here):
        raise UnsupportedError(
            f"{recipe.name} is built on {wanted}, this machine is {here}",
            hint="sources run programs of the tree that they fill",
        )
    if lock is not None and lock.architecture != here and any(s.inputs for s in lock.sources):
        raise BuildError(
            f"{recipe.lock.name} is for {lock.architecture}, this machine is {here}",
            hint="--update-lock makes one for this machine",
        )


def _match(recipe: Recipe, lock: Lock) -> list[tuple[Pin, ...]]:
    """The pins of each source; the recipe must still ask for what the lock answers."""
    asked = [(request.kind, digest_request(request.table)) for request in recipe.sources]
    if asked != [(source.kind, source.asked) for source in lock.sources]:
        raise BuildError(
            f"{recipe.lock.name} was made for other sources than the recipe has now",
            hint="--update-lock makes it anew",
        )
    return [source.inputs for source in lock.sources]


def _add(
    request: Request,
    pins: tuple[Pin, ...] | None,
    recipe: Recipe,
    tree: Path,
    cache: Path,
    report: Report,
) -> Added:
    scratch = Path(tempfile.mkdtemp(prefix="source-", dir=tree.parent))
    site = Site(
        tree=tree,
        directory=recipe.directory,
        cache=cache,
        scratch=scratch,
        name=recipe.name,
        version=recipe.version,
        environment=dict(os.environ),
        report=report,
    )
    try:
        return request.source.add(site, pins)
    except OSError as e:
        raise files.translate_os_error(e, f"add the source {request.kind}") from e
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _lock(recipe: Recipe, added: list[Added]) -> Lock:
    return Lock(
        architecture=platform.machine(),
        sources=tuple(
            LockedSource(kind=request.kind, asked=digest_request(request.table), inputs=one.pins)
            for request, one in zip(recipe.sources, added, strict=True)
        ),
    )


def exclude(tree: Path, recipe: Recipe) -> None:
    """Remove what matches the recipe's patterns; a directory goes with all below it."""
    excluded = compile_globs(recipe.exclude)
    if recipe.exclude:
        _exclude(os.fspath(tree), "", excluded)


def _exclude(here: str, prefix: str, excluded: Callable[[str], bool]) -> None:
    with os.scandir(here) as entries:
        for entry in list(entries):
            path = prefix + entry.name
            is_directory = entry.is_dir(follow_symlinks=False)
            if excluded(path):
                files.remove_tree(entry.path)
            elif is_directory:
                _exclude(entry.path, path + "/", excluded)


def make_mount_points(tree: Path, recipe: Recipe) -> None:
    """Make what a sandbox mounts something on, where no source has."""
    for path in recipe.mount_points:
        resolve(tree, path).mkdir(parents=True, exist_ok=True)
    for path in MOUNT_FILES:
        target = resolve_parent(tree, path)
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.is_symlink() or not target.is_file():
            target.unlink(missing_ok=True)
            files.write_new(target, b"")
