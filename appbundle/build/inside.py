"""Where a path of a tree really is: links are followed as in a chroot, never out of the tree.

Sources write through this, because a link that one package brings may lead where the next one
puts its files; on the building machine the same link may lead to one of its own directories.
"""

import os
from pathlib import Path

from appbundle.build.view import MAX_HOPS
from appbundle.errors import BuildError
from appbundle.names import escape


def resolve(tree: Path, path: str) -> Path:
    """Follow all links of a path, the last one too; what is not there yet is taken as it stands.

    Args:
        tree: Its root.
        path: Inside the tree, with or without a leading slash.

    Raises:
        BuildError: The links go round in circles.
    """
    here: list[str] = []
    todo = path.split("/")[::-1]
    hops = 0
    while todo:
        part = todo.pop()
        if part in ("", "."):
            continue
        if part == "..":
            del here[-1:]
            continue
        target = _read_link(tree.joinpath(*here, part))
        if target is None:
            here.append(part)
            continue
        hops += 1
        if hops > MAX_HOPS:
            raise BuildError(f"{escape(path)} leads through too many links")
        if target.startswith("/"):
            here = []
        todo += target.split("/")[::-1]
    return tree.joinpath(*here)


def resolve_parent(tree: Path, path: str) -> Path:
    """Follow all links but the last name, which is what will be replaced."""
    directory, name = os.path.split(path.rstrip("/"))
    return resolve(tree, directory) / name


def _read_link(path: Path) -> str | None:
    try:
        return os.readlink(path)
    except OSError:
        return None
