"""What recipes have in common, said once: `include`, and how two files become one.

The included file comes first: lists of the recipe go on where its lists end, and other values of
the recipe are taken instead of its own.
"""

import os
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from appbundle.errors import BuildError
from appbundle.names import escape

KEY = "include"

_DEPTH = 8
"""More files that include each other are taken for a circle."""

Check = Callable[[dict[str, Any]], None]


def resolve(
    tables: dict[str, Any], directory: Path, check: Check, *, depth: int = _DEPTH
) -> dict[str, Any]:
    """Put what a recipe includes into it.

    Args:
        tables: The recipe, or an included file, as TOML has it.
        directory: Where that file is.
        check: Raises BuildError for an included file that says what it may not.
        depth: So many files may still follow.

    Returns:
        The same without `include`.

    Raises:
        BuildError: The file is missing or malformed; `what` says which, and where.
    """
    name = tables.get(KEY)
    if name is None:
        return tables
    if not isinstance(name, str) or not name:
        raise BuildError(f"not the path of a file - at `$.{KEY}`")
    if not depth:
        raise BuildError(f"files include each other - at `$.{KEY}`")
    path = directory / name
    try:
        common = tomllib.loads(path.read_text(encoding="utf-8"))
        check(common)
        common = resolve(common, path.parent, check, depth=depth - 1)
    except (OSError, ValueError) as e:
        raise BuildError(f"{escape(name)} - at `$.{KEY}`: {e}") from e
    except BuildError as e:
        raise BuildError(f"{escape(name)}: {e.what}", hint=e.hint) from e
    return join(_moved(common, os.path.dirname(name)), tables)


def _moved(tables: dict[str, Any], directory: str) -> dict[str, Any]:
    """Make directories of sources, which are beside the included file, such beside the recipe."""
    sources = tables.get("sources", [])
    moved = [
        {**each, "directory": os.path.join(directory, each["directory"])}
        if "directory" in each
        else each
        for each in sources
    ]
    return {**tables, "sources": moved} if sources else tables


def join(common: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    """Put two tables together: lists one after the other, of other values the second's."""
    joined = {**common, **own}
    for key, value in common.items():
        if isinstance(value, list) and isinstance(own.get(key), list):
            joined[key] = [*value, *own[key]]
    joined.pop(KEY, None)
    return joined
