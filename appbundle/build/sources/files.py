"""The source `files`: a directory beside the recipe, copied as it is."""

import hashlib
import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import msgspec

from appbundle.build.inside import resolve, resolve_parent
from appbundle.build.sources.base import Added, Component, Pin, Site
from appbundle.errors import BuildError
from appbundle.names import escape


class Files(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Copy a directory's content into the tree; it wins over what is there.

    Args:
        directory: Beside the recipe.
        to: Where in the tree, relative to its root.
    """

    directory: str
    to: str = ""

    def add(self, site: Site, pins: tuple[Pin, ...] | None) -> Added:
        """Copy; nothing is locked, because the files are kept with the recipe."""
        origin = site.directory / self.directory
        if not origin.is_dir():
            raise BuildError(f"{escape(self.directory)} is not a directory beside the recipe")
        site.report.step(f"copying {self.directory}")
        added = []
        for path in _walk(origin):
            target = os.path.join(self.to, path)
            _refuse_escape(target)
            if (digest := place(origin / path, site.tree, target)) is not None:
                added.append(_component(site, target, digest))
        return Added(components=tuple(added))


def _walk(origin: Path) -> Iterator[str]:
    """Relative paths of everything, parents first, sorted."""
    for here, directories, files in os.walk(origin, onerror=_refuse_unread):
        directories.sort()
        for name in sorted([*directories, *files]):
            yield os.path.relpath(os.path.join(here, name), origin)


def _refuse_unread(error: OSError) -> None:
    raise error


def _refuse_escape(path: str) -> None:
    if path.startswith("/") or os.path.normpath(path).split("/")[0] == "..":
        raise BuildError(f"{escape(path)} is outside the tree")


def place(source: Path, tree: Path, path: str) -> str | None:
    """Put one file, link or directory into a tree; what is there is replaced.

    Args:
        source: What to copy.
        tree: The tree's root.
        path: Where in the tree; links on the way are followed as in a chroot.

    Returns:
        The SHA-256 of a regular file, None for others.
    """
    mode = source.lstat().st_mode
    if stat.S_ISDIR(mode):
        resolve(tree, path).mkdir(parents=True, exist_ok=True)
        return None
    target = resolve_parent(tree, path)
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.is_symlink() or target.is_file():
        target.unlink()
    if stat.S_ISLNK(mode):
        target.symlink_to(os.readlink(source))
        return None
    if not stat.S_ISREG(mode):
        raise BuildError(f"{escape(str(source))} is neither a file, a directory nor a link")
    shutil.copyfile(source, target)
    # A umask of 002 makes a whole working copy writable by a group, but nothing by everybody:
    # that stays, for the checks to see.
    target.chmod((0o755 if mode & 0o111 else 0o644) | mode & 0o002)
    return hash_file(target)


def hash_file(path: Path) -> str:
    """The SHA-256 of a file's content."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _component(site: Site, path: str, digest: str) -> Component:
    return Component(
        name=path,
        version=site.version,
        sha256=digest,
        purl=f"pkg:generic/{site.name}@{site.version}#{quote(path)}",
    )
