"""The source `files`: a directory beside the recipe, copied as it is."""

import hashlib
import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

import msgspec

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
            target = site.tree / self.to / path
            _refuse_escape(site.tree, target)
            if (digest := place(origin / path, target)) is not None:
                added.append(_component(site, os.path.join(self.to, path), digest))
        return Added(components=tuple(added))


def _walk(origin: Path) -> Iterator[str]:
    """Relative paths of everything, parents first, sorted."""
    for here, directories, files in os.walk(origin):
        directories.sort()
        for name in sorted([*directories, *files]):
            yield os.path.relpath(os.path.join(here, name), origin)


def _refuse_escape(tree: Path, target: Path) -> None:
    if not Path(os.path.normpath(target)).is_relative_to(tree):
        raise BuildError(f"{escape(str(target))} is outside the tree")


def place(source: Path, target: Path) -> str | None:
    """Put one file, link or directory into a tree; what is there is replaced.

    Returns:
        The SHA-256 of a regular file, None for others.
    """
    mode = source.lstat().st_mode
    if stat.S_ISDIR(mode):
        target.mkdir(parents=True, exist_ok=True)
        return None
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.is_symlink() or target.is_file():
        target.unlink()
    if stat.S_ISLNK(mode):
        target.symlink_to(os.readlink(source))
        return None
    if not stat.S_ISREG(mode):
        raise BuildError(f"{escape(str(source))} is neither a file, a directory nor a link")
    shutil.copyfile(source, target)
    target.chmod(0o755 if mode & 0o111 else 0o644)
    return hash_file(target)


def hash_file(path: Path) -> str:
    """The SHA-256 of a file's content."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _component(site: Site, path: str, digest: str) -> Component:
    return Component(
        name=path,
        version=site.version,
        kind="file",
        sha256=digest,
        purl=f"pkg:generic/{site.name}@{site.version}#{path}",
    )
