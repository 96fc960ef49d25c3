"""The JSON shapes that scripts rely on; docs/json.md."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from appbundle.flows.switch import Switched
    from appbundle.store.generations import Generation
    from appbundle.store.versions import About


def switched(result: "Switched") -> dict[str, Any]:
    """`install`, `switch`: generation, parent, apps, outcome, changes."""
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
    }


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
    from msgspec.structs import asdict

    document = asdict(each.manifest)
    for table in ("directories", "links", "files", "frames", "outward"):
        document.pop(table, None)
    run = document["run"]
    return document | {
        "requires": asdict(document["requires"]),
        "run": asdict(run) | {"argv": list(run.argv)} if run else None,
        "digest": each.digest,
        "files": each.files,
        "size_bytes": each.size_bytes,
        "installed_at": each.installed_at or None,
        "signers": list(each.signers),
    }
