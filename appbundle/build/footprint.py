"""The footprint: every path of a bundle in a text file that is committed beside the recipe.

One line an entry, sorted by path: kind (`d`, `f`, `x` for an executable file, `l`), a space, the
path, and for a link ` -> ` and its target. Byte code is left out: it follows from its source. So is
what the recipe calls unlisted: files that come and go with commits of their own.
As CRUX does with its ports, a build whose result has other entries fails with the list of them.
"""

from collections.abc import Iterable
from pathlib import Path

from appbundle.build.encode import Tables
from appbundle.build.globs import compile_globs
from appbundle.errors import BuildError
from appbundle.system.files import write_durably

_HEADER = (
    "# Every entry of the bundle: d directory, f file (0644), x executable (0755), l link.\n"
    "# Written by: appb build --update-footprint\n"
)
_CACHE = "__pycache__"


def render(tables: Tables, unlisted: Iterable[str] = ()) -> str:
    """Write a tree's footprint, without paths that match a pattern of `unlisted`."""
    is_unlisted = compile_globs(unlisted)
    lines = [(path, f"d {path}/") for path in tables.directories]
    for file in tables.files:
        lines.append((file.path, f"{'x' if file.executable else 'f'} {file.path}"))
    lines += [(link.path, f"l {link.path} -> {link.target}") for link in tables.links]
    listed = [
        f"{line}\n"
        for path, line in sorted(lines)
        if not (_is_byte_code(path) or is_unlisted(path))
    ]
    return _HEADER + "".join(listed)


def _is_byte_code(path: str) -> bool:
    return path.endswith(_CACHE) or f"{_CACHE}/" in path


def compare(expected: str, found: str) -> tuple[str, ...]:
    """List what differs between two footprints.

    Returns:
        `+` lines that only `found` has, `-` lines that only `expected` has, sorted by path.
    """
    before, after = _entries(expected), _entries(found)
    changes = [(line[2:], 0, f"- {line}") for line in before - after]
    changes += [(line[2:], 1, f"+ {line}") for line in after - before]
    return tuple(text for _, _, text in sorted(changes))


def _entries(text: str) -> set[str]:
    return {line for line in text.splitlines() if line and not line.startswith("#")}


def read(file: Path) -> str | None:
    """Read a footprint; None if there is none."""
    try:
        return file.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None


def check(file: Path, tables: Tables, *, update: bool, unlisted: Iterable[str] = ()) -> bool:
    """Compare a tree with the committed footprint; write it if there is none or it is wanted.

    Args:
        file: The footprint.
        tables: Of the tree.
        update: Accept what is found.
        unlisted: Patterns of paths that it leaves out.

    Returns:
        Whether the file was written.

    Raises:
        BuildError: With every entry that is new or gone.
    """
    found = render(tables, unlisted)
    expected = read(file)
    update = update or expected is None
    differences = compare(expected or "", found)
    if differences and not update:
        count = "1 entry differs" if len(differences) == 1 else f"{len(differences)} entries differ"
        raise BuildError(
            f"{count} from {file.name}",
            issues=differences,
            kept="no bundle was written",
            hint="look through them; appb build --update-footprint accepts them",
        )
    if found == expected or not update:
        return False
    write_durably(file, found.encode())
    return True
