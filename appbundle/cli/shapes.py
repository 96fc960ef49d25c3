"""The JSON shapes that scripts rely on; docs/json.md."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from appbundle.cli.words import size

if TYPE_CHECKING:
    from appbundle.flows.consequences import SettingChange, Switched
    from appbundle.flows.cost import Cost
    from appbundle.flows.install import Installed
    from appbundle.flows.offer import Offer
    from appbundle.flows.settings import Changed
    from appbundle.store.generations import Generation
    from appbundle.store.versions import About


def switched(result: "Switched") -> dict[str, Any]:
    """`install`, `switch`: generation, parent, apps, outcome, what changes."""
    generation = result.generation
    return {
        "generation": generation.number if generation else None,
        "parent": generation.parent if generation else None,
        "apps": dict(generation.apps) if generation else {},
        "outcome": result.outcome,
        "changes": [
            {"name": each.name, "before": each.before, "after": each.after}
            for each in result.changes
        ],
        "settings": settings(result.settings),
        "widenings": list(result.widenings),
        "losses": list(result.losses),
        "commands": list(result.commands),
    }


def settings(changes: "Iterable[SettingChange]") -> list[dict[str, Any]]:
    """Settings that have another value."""
    return [
        {"app": each.app, "name": each.name, "before": each.before, "after": each.after}
        for each in changes
    ]


def installed(result: "Installed") -> dict[str, Any]:
    """`install`, `upgrade`: as `switched`, with versions and what that took."""
    cost = result.cost
    return switched(result.switched) | {
        "versions": [{"name": ref.name, "version": ref.version} for ref in result.versions],
        "new_bytes": cost.new_bytes,
        "new_files": cost.new_files,
        "fetched_bytes": cost.fetched_bytes,
        "saved_bytes": cost.saved_bytes,
    }


def installed_words(result: "Installed", *, dry_run: bool) -> str:
    """The same in words."""
    names = ", ".join(f"{ref.name} {ref.version}" for ref in result.versions)
    cost = result.cost
    new = new_words(cost, dry_run=dry_run)
    if dry_run and (result.switched.changes or cost.new_files):
        lines = "".join(f"\n  {each}" for each in result.switched.lines)
        return f"would install {names}: {new} to write{lines}"
    if dry_run or result.switched.outcome == "unchanged":
        return f"{names}: installed already; nothing to change"
    generation = result.switched.generation
    after = (
        f"; generation {generation.number} is current"
        if result.switched.outcome == "switched" and generation
        else "; not switched"
    )
    return f"installed {names}: {new} written{after}"


def new_words(cost: "Cost", *, dry_run: bool) -> str:
    """What an installation takes, in words."""
    fetched = ""
    if cost.whole_bytes:
        verb = "to fetch" if dry_run else "fetched"
        fetched = f"{size(cost.fetched_bytes)} {verb}, {size(cost.saved_bytes)} saved; "
    return f"{fetched}{size(cost.new_bytes)} in {cost.new_files} files"


def offer(found: "Offer | None") -> dict[str, Any] | None:
    """`info`: what a repository offers."""
    if found is None:
        return None
    return {
        "repository": found.repository,
        "channels": list(found.channels),
        "new_bytes": found.cost.new_bytes,
        "new_files": found.cost.new_files,
        "fetched_bytes": found.cost.fetched_bytes,
        "saved_bytes": found.cost.saved_bytes,
        "widenings": list(found.widenings),
    }


def changed(result: "Changed") -> dict[str, Any]:
    """`set`, `unset`: as `switched`, with the app and its settings that differ."""
    switched_to = switched(result.switched)
    kept = ("generation", "parent", "outcome", "settings")
    return {key: switched_to[key] for key in kept} | {
        "app": result.app,
        "changed": list(result.changed),
    }


def changed_words(result: "Changed") -> str:
    """The same in words."""
    number = result.switched.generation.number if result.switched.generation else "none"
    names = ", ".join(result.changed)
    match result.switched.outcome:
        case "planned":
            return f"would change {names or 'nothing'} of {result.app}"
        case "unchanged":
            return f"generation {number} is current already; nothing to change"
        case _:
            return f"generation {number} is current, with another {names} of {result.app}"


def generation(each: "Generation") -> dict[str, Any]:
    """One entry of `history`."""
    return {
        "number": each.number,
        "parent": each.parent,
        "created_at": each.created_at,
        "reason": each.reason,
        "by": each.by,
        "outcome": each.outcome,
        "apps": dict(each.apps),
    }


def about(each: "About") -> dict[str, Any]:
    """`info`: the manifest without its tables, with digest and sizes."""
    document: dict[str, Any] = _plain(each.manifest)
    for table in ("directories", "links", "files", "frames", "outward"):
        document.pop(table, None)
    return document | {
        "digest": each.digest,
        "files": each.files,
        "size_bytes": each.size_bytes,
        "installed_at": each.installed_at or None,
        "signers": list(each.signers),
    }


def _plain(value: Any) -> Any:
    """A part of a manifest with all its keys, those that have their defaults too."""
    from msgspec.structs import asdict

    if hasattr(value, "__struct_fields__"):
        value = asdict(value)
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, tuple):
        return [_plain(inner) for inner in value]
    return value
