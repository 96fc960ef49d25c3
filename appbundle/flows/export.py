"""`appb export`: bundles of this node, and what it knows of them, for nodes without a network."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from appbundle.errors import NotFoundError
from appbundle.flows import sign
from appbundle.flows.context import Context
from appbundle.names import BundleRef
from appbundle.repository import bindings
from appbundle.repository.excerpt import Excerpt, is_same_file
from appbundle.repository.release import Release
from appbundle.store import generations, versions
from appbundle.store.versions import Installed
from appbundle.system import files


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """A bundle file that was written, or was there already.

    Args:
        ref: What it is.
        path: Below the directory that was asked for.
        repository: Whose excerpt it is part of; empty for a bundle that is in no repository.
    """

    ref: BundleRef
    path: str
    repository: str


def export_generation(
    context: Context, directory: str, number: int | None = None
) -> list[Exported]:
    """Write the bundle files of a generation, by default the current one, as `export` does.

    Raises:
        NotFoundError: There is no such generation.
    """
    layout = context.layout
    generation = generations.current(layout) if number is None else generations.read(layout, number)
    if generation is None:
        raise NotFoundError("this node runs nothing", hint="appb export APP@VERSION DIR")
    refs = [BundleRef(name, version) for name, version in generation.apps.items()]
    return export(context, directory, refs)


def export(context: Context, directory: str, refs: Sequence[BundleRef]) -> list[Exported]:
    """Write bundle files: in a folder for each repository that they are from, or loose.

    Args:
        directory: Where; made if it is not there, and added to if it is.
        refs: Versions; an app's name alone means its current one.

    Raises:
        NotFoundError: There is no such version or directory.
        CorruptError: A file of a version is not what was signed, or this libzstd compresses
            otherwise than the one that made its bundle.
    """
    layout, top = context.layout, Path(directory)
    if not top.parent.is_dir():
        raise NotFoundError(f"there is no directory {top.parent}", hint=f"mkdir {top.parent}")
    chosen = [
        versions.find(layout, ref, current=generations.current_version(layout, ref.name))
        for ref in refs
    ]
    try:
        files.make_directory(top)
        found = [_write(context, top, each) for each in chosen]
        for repository in sorted({each.repository for each in found} - {""}):
            apps = [each.ref.name for each in found if each.repository == repository]
            Excerpt(layout, repository).write(top / repository, apps)
    except OSError as error:
        raise files.translate_os_error(
            error, f"writing to {directory}", kept="this node is as before"
        ) from error
    return found


def _write(context: Context, top: Path, installed: Installed) -> Exported:
    ref = BundleRef(installed.name, installed.version)
    tree = str(context.layout.version(installed.name, installed.version))
    loose = top / f"{installed.name}-{installed.version}.bundle"
    repository, release = _described(context, installed)
    if release is None:
        sign.pack(context, tree, str(loose))
        return Exported(ref=ref, path=loose.name, repository="")
    path = top / repository / release.path
    if not is_same_file(path, release):
        files.make_directories(path.parent)
        sign.pack(context, tree, str(path))
    if is_same_file(path, release):
        return Exported(ref=ref, path=str(path.relative_to(top)), repository=repository)
    os.rename(path, loose)
    context.report.note(f"{repository} has {ref} with other signatures by now; it is written loose")
    return Exported(ref=ref, path=loose.name, repository="")


def _described(context: Context, installed: Installed) -> tuple[str, Release | None]:
    """Give the repository that a version is from, and what it said of it."""
    repository = bindings.bound_to(context.layout, installed.name)
    if repository is None:
        return "", None
    release = Excerpt(context.layout, repository).find(installed.name, installed.version)
    is_same = release is not None and release.digest == installed.about.digest
    return repository, release if is_same else None
