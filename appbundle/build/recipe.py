"""A recipe: how a bundle is made, from `recipe.toml`. docs/recipes.md describes every key.

One recipe may hold several releases; `read_recipe` gives one of them, with everything that is
common merged into it.
"""

import platform
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from appbundle.build import included
from appbundle.build.sources import decode_source
from appbundle.build.sources.base import Source
from appbundle.bundle.manifest import Requires, Run
from appbundle.bundle.services import Service
from appbundle.bundle.settings import Setting, Template
from appbundle.bundle.tasks import Rollback, Task
from appbundle.errors import BuildError, NotFoundError, UsageError
from appbundle.names import AppName, Version, escape, parse_app_name, parse_version

RECIPE = "recipe.toml"
HOST = "host"
"""As `architecture` in a recipe: that of the machine that builds."""

MOUNT_POINTS = ("dev", "proc", "run", "sys", "tmp", "var/tmp")
"""Directories that every tree has, beside those of `OWN`: a sandbox mounts something there."""
OWN = ("var/cache", "var/lib", "var/log")
"""Where every tree has a directory with the app's name: likewise."""
MOUNT_FILES = ("etc/group", "etc/hosts", "etc/passwd", "etc/resolv.conf")
"""Files that every tree has, empty unless a source brings them: likewise."""

_Kind = TypeVar("_Kind")
_Entitled = TypeVar("_Entitled", Service, Task)


class _Common(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, rename="kebab"
):
    """Keys that may stand at the top and in a release."""

    summary: str = ""
    requires: Requires | None = None
    run: Run | None = None
    commands: dict[str, tuple[str, ...]] = {}
    services: tuple[Service, ...] = ()
    settings: tuple[Setting, ...] = ()
    templates: tuple[Template, ...] = ()
    tasks: tuple[Task, ...] = ()
    rollback: tuple[Rollback, ...] = ()
    outward: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    unlisted: tuple[str, ...] = ()
    mount_points: tuple[str, ...] = ()
    sources: tuple[dict[str, Any], ...] = ()
    defaults: dict[str, dict[str, Any]] = {}


class _Included(_Common, frozen=True, forbid_unknown_fields=True, kw_only=True, rename="kebab"):
    """A file that recipes include."""

    include: str = ""


class _Release(_Common, frozen=True, forbid_unknown_fields=True, kw_only=True, rename="kebab"):
    """One table of `[releases]`."""

    release: int


class _Document(_Common, frozen=True, forbid_unknown_fields=True, kw_only=True, rename="kebab"):
    """All of `recipe.toml`."""

    name: str
    licence: str = ""
    homepage: str = ""
    source: str = ""
    lock: str = "{version}.lock"
    footprint: str = "{version}.footprint"
    releases: dict[str, dict[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One source of a recipe.

    Args:
        kind: As written.
        table: As written, placeholders filled in.
        source: The same, decoded.
    """

    kind: str
    table: dict[str, Any]
    source: Source


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """One release of a recipe.

    Args:
        name: The app.
        version: Of the bundle, for people.
        release: Grows with every release.
        summary: One line.
        licence: An SPDX expression.
        homepage: URL.
        source: Where the sources are, URL.
        requires: What a node must have; `architecture` is never `host` here.
        run: The declared command, if any.
        commands: What people may call by name; sorted, as a manifest has them.
        services: What a node keeps running.
        settings: What an administrator may change.
        templates: Files that follow from settings.
        tasks: What is done to the state when releases change.
        rollback: What going back from this release means.
        outward: Paths of links that may point out of the bundle.
        exclude: Patterns of paths that are left out.
        unlisted: Patterns of paths that the footprint leaves out.
        mount_points: Directories that the tree must have, the standard ones among them.
        sources: In the order in which they fill the tree.
        footprint: The file that lists what the tree should hold.
        lock: The file that pins the inputs.
        directory: Where the recipe is.
    """

    name: AppName
    version: Version
    release: int
    summary: str
    licence: str
    homepage: str
    source: str
    requires: Requires
    run: Run | None
    commands: dict[str, tuple[str, ...]]
    services: tuple[Service, ...]
    settings: tuple[Setting, ...]
    templates: tuple[Template, ...]
    tasks: tuple[Task, ...]
    rollback: tuple[Rollback, ...]
    outward: tuple[str, ...]
    exclude: tuple[str, ...]
    unlisted: tuple[str, ...]
    mount_points: tuple[str, ...]
    sources: tuple[Request, ...]
    footprint: Path
    lock: Path
    directory: Path


def read_recipe(directory: Path, *, release: str | None) -> Recipe:
    """Read one release of a recipe.

    Args:
        directory: Holds `recipe.toml`.
        release: The version to build; None for the one with the highest release number.

    Raises:
        NotFoundError: There is no recipe, or it has no such release.
        BuildError: The recipe is malformed; `what` says where.
    """
    path = directory / RECIPE
    try:
        text = path.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError) as e:
        raise NotFoundError(f"there is no {RECIPE} in {escape(str(directory))}") from e
    except (OSError, UnicodeDecodeError) as e:
        raise BuildError(f"cannot read {escape(str(path))}: {e}") from e
    try:
        return parse_recipe(text, directory=directory, release=release)
    except (BuildError, UsageError) as e:
        located = f"{escape(str(path))}: {e.what}"
        raise BuildError(located, issues=getattr(e, "issues", ()), hint=e.hint) from e


def parse_recipe(text: str, *, directory: Path, release: str | None) -> Recipe:
    """Parse one release of a recipe's text.

    Raises:
        NotFoundError: It has no such release.
        BuildError: It, or a file that it includes, is malformed.
        UsageError: Its name or a version is malformed.
    """
    tables = included.resolve(_load(text), directory, _check_included)
    loose = _convert(tables, _Document, "$")
    name = parse_app_name(loose.name)
    release_numbers = {
        parse_version(version): _convert(table, _Release, f'$.releases."{version}"').release
        for version, table in loose.releases.items()
    }
    version = _choose(release_numbers, release)
    _check_numbers(release_numbers)
    tables = {"lock": loose.lock, "footprint": loose.footprint, **tables}
    filled = _fill(tables, {"{name}": name, "{version}": version})
    document = _convert(filled, _Document, "$")
    chosen = _convert(filled["releases"][version], _Release, f'$.releases."{version}"')
    return _merge(name, version, document, chosen, directory)


def _load(text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as e:
        raise BuildError(str(e)) from e


def _check_included(tables: dict[str, Any]) -> None:
    _convert(tables, _Included, "$")


def _convert(table: object, kind: type[_Kind], place: str) -> _Kind:
    try:
        return msgspec.convert(table, type=kind)
    except msgspec.ValidationError as e:
        text = str(e)
        located = text.replace("`$", f"`{place}") if "`$" in text else f"{text} - at `{place}`"
        raise BuildError(located) from e


def _choose(numbers: dict[Version, int], wanted: str | None) -> Version:
    if not numbers:
        raise BuildError("there is no release - at `$.releases`")
    if wanted is None:
        return max(numbers, key=lambda version: numbers[version])
    for version in numbers:
        if version == wanted:
            return version
    raise NotFoundError(
        f"the recipe has no release {escape(wanted)}", hint=f"it has {', '.join(sorted(numbers))}"
    )


def _check_numbers(numbers: dict[Version, int]) -> None:
    # Downgrade protection compares these numbers: two versions with one number defeat it.
    if len(set(numbers.values())) < len(numbers):
        raise BuildError("two releases have the same number - at `$.releases`")


def _fill(value: Any, words: dict[str, str]) -> Any:
    """Replace `{name}` and `{version}` in every string, keys excepted."""
    if isinstance(value, str):
        for word, meaning in words.items():
            value = value.replace(word, meaning)
        return value
    if isinstance(value, dict):
        return {key: _fill(each, words) for key, each in value.items()}
    if isinstance(value, list):
        return [_fill(each, words) for each in value]
    return value


def _merge(
    name: AppName, version: Version, document: _Document, chosen: _Release, directory: Path
) -> Recipe:
    places = [f"$.sources[{at}]" for at in range(len(document.sources))]
    places += [f'$.releases."{version}".sources[{at}]' for at in range(len(chosen.sources))]
    defaults = document.defaults | chosen.defaults
    tables = tuple(
        included.join(defaults.get(table.get("kind", ""), {}), table)
        for table in (*document.sources, *chosen.sources)
    )
    if not tables:
        raise BuildError("there is nothing to build from - at `$.sources`")
    return Recipe(
        name=name,
        version=version,
        release=chosen.release,
        summary=chosen.summary or document.summary,
        licence=document.licence,
        homepage=document.homepage,
        source=document.source,
        requires=_resolve(chosen.requires or document.requires or Requires()),
        run=chosen.run or document.run,
        commands=dict(sorted((chosen.commands or document.commands).items())),
        services=tuple(map(_sorted, chosen.services or document.services)),
        settings=chosen.settings or document.settings,
        templates=chosen.templates or document.templates,
        tasks=tuple(map(_sorted, chosen.tasks or document.tasks)),
        rollback=chosen.rollback or document.rollback,
        outward=_union(document.outward, chosen.outward),
        exclude=_union(document.exclude, chosen.exclude),
        unlisted=_union(document.unlisted, chosen.unlisted),
        mount_points=_mount_points(name, (*document.mount_points, *chosen.mount_points)),
        sources=tuple(
            Request(kind=table.get("kind", ""), table=table, source=decode_source(table, place=at))
            for table, at in zip(tables, places, strict=True)
        ),
        footprint=directory / document.footprint,
        lock=directory / document.lock,
        directory=directory,
    )


def _sorted(declared: _Entitled) -> _Entitled:
    """Bring entitlements into the order that manifests have."""
    entitlements = tuple(sorted(set(declared.entitlements)))
    return msgspec.structs.replace(declared, entitlements=entitlements)


def _resolve(requires: Requires) -> Requires:
    if requires.architecture != HOST:
        return requires
    return msgspec.structs.replace(requires, architecture=platform.machine())


def _union(*parts: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(each for part in parts for each in part))


def _mount_points(name: AppName, more: tuple[str, ...]) -> tuple[str, ...]:
    own = (f"{place}/{name}" for place in OWN)
    points = [path.strip("/") for path in (*MOUNT_POINTS, *own, *more)]
    for path in points:
        if not path or any(part in ("", ".", "..") for part in path.split("/")):
            raise BuildError(f"{escape(path)} is not a directory's path - at `$.mount-points`")
    return tuple(dict.fromkeys(points))
