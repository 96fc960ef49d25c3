"""Staging and publishing: a verified bundle becomes a complete, durable version directory.

Nothing below `/apps/NAME` exists before it is whole: files are written in a private stage on the
same file system, made durable together, then renamed into place.
"""

import contextlib
import mmap
import os
import platform
from array import array
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

import msgspec

from appbundle.bundle.manifest import Manifest
from appbundle.bundle.payload import Shape, measure
from appbundle.bundle.statement import encode_signed
from appbundle.errors import ConflictError, CorruptError, NoSpaceError, UnsupportedError
from appbundle.layout import ABOUT, BUNDLE_DIR, MANIFEST_FRAME, SIGNED, Layout
from appbundle.names import AppName, escape
from appbundle.store import generations, unpack, versions
from appbundle.store.flush import Flusher
from appbundle.store.source import BundleDirectory, Source
from appbundle.store.worker import FileState, Job, Task, unpacking_failed
from appbundle.system import files, libc
from appbundle.trust.verify import VerifiedBundle

_BLOCK = 4096
_SPARE_BYTES = 16 << 20
"""What directories, journal and the next generation may need beside the contents."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Staged:
    """A version that is whole and durable, but not yet in its place."""

    bundle: VerifiedBundle
    tree: Path
    new_bytes: int
    new_files: int


def check_requirements(manifest: Manifest, *, root: Path) -> None:
    """Refuse a bundle that this node cannot run, before anything is written.

    Raises:
        UnsupportedError: Architecture, kernel or base is not what the bundle needs.
    """
    needs, title = manifest.requires, f"{manifest.name} {manifest.version}"
    machine = platform.machine()
    if needs.architecture not in ("any", machine):
        raise UnsupportedError(f"{title} is for {needs.architecture}; this node is {machine}")
    if needs.kernel and _numbers(platform.release()) < _numbers(needs.kernel):
        raise UnsupportedError(
            f"{title} needs Linux {needs.kernel}; this node runs {platform.release()}"
        )
    if needs.base and needs.base != (here := _base_of(root)):
        raise UnsupportedError(f"{title} needs the base {needs.base}; this node is {here}")


def _numbers(release: str) -> tuple[int, ...]:
    words = release.split("-")[0].split(".")[:3]
    return tuple(int(word) for word in words if word.isdigit())


def _base_of(root: Path) -> str:
    values = {"ID": "unknown", "VERSION_ID": ""}
    for name in ("etc/os-release", "usr/lib/os-release"):
        if (root / name).is_file():
            lines = (root / name).read_text().splitlines()
            values |= {k: v.strip("\"'") for k, _, v in (line.partition("=") for line in lines)}
            break
    return f"{values['ID']}-{values['VERSION_ID']}".rstrip("-")


def stage(
    layout: Layout,
    private_fd: int,
    tree: Path,
    bundle: VerifiedBundle,
    source: Source,
    *,
    installed_at: int,
    progress: Callable[[int, int], None],
) -> Staged:
    """Unpack a bundle into a stage, taking from the pool what it has; then all of it is durable.

    Args:
        private_fd: Of the node's private directory, opened before anything was written: a write
            error since then is reported by the flush.
        tree: A path in a stage of this transaction; nothing is there yet.
        source: Stands at the payload's first byte (or is the bundle as a directory).
        installed_at: Seconds since the epoch.
        progress: Called with bytes done and bytes to do.

    Raises:
        CorruptError: A byte is not what was signed.
        NoSpaceError: Bytes or inodes are lacking; found before unpacking where possible.
        UnsupportedError: Somebody else could write to the app's directory.
    """
    home = layout.app(bundle.statement.name)
    if os.path.lexists(home):
        files.check_owner(home)
    about = versions.describe(bundle, installed_at=installed_at)
    new_bytes, new_files = unpack_tree(
        tree,
        bundle,
        source,
        about=msgspec.json.encode(about),
        into=_Pool(layout.objects, private_fd),
        progress=progress,
    )
    return Staged(bundle=bundle, tree=tree, new_bytes=new_bytes, new_files=new_files)


@dataclass(frozen=True, slots=True)
class _Pool:
    """The pool that a version takes contents from and gives its own to.

    Args:
        objects: Its directory.
        sync_fd: What to call syncfs(2) with.
    """

    objects: Path
    sync_fd: int


def unpack_tree(
    tree: Path,
    bundle: VerifiedBundle,
    source: Source,
    *,
    about: bytes | None = None,
    into: _Pool | None = None,
    progress: Callable[[int, int], None],
) -> tuple[int, int]:
    """Unpack a bundle into a new directory: a bundle directory, or a version in the making.

    Args:
        tree: Where; nothing is there yet.
        about: What to put into the version's ABOUT, if it becomes one.
        into: The pool to take contents from, and to give new ones to once they are durable.

    Returns:
        The bytes and number of files that were written.
    """
    manifest = bundle.manifest
    shape = measure(manifest.directories, manifest.links, manifest.files)
    os.mkdir(tree)
    os.chmod(tree, files.DIRECTORY_MODE)
    write_papers(tree, bundle, about)
    states, twins = first_states(manifest)
    with ExitStack() as opened:
        job = Job(
            manifest=manifest,
            starts=shape.starts,
            frame_starts=frame_starts(manifest),
            directories=tuple(sorted(manifest.directories, key=lambda path: path.count("/"))),
            tree_fd=opened.enter_context(files.directory(tree)),
            objects_fd=opened.enter_context(files.directory(into.objects)) if into else -1,
            states=states,
            twins=twins,
            source_fd=source.fd if isinstance(source, BundleDirectory) else -1,
        )
        workers = opened.enter_context(unpack.started(job))
        workers.make_directories()
        make_links(job.tree_fd, manifest)
        workers.over_files(Task.EMPTY, only=FileState.EMPTY)
        if into is None:
            new = check_space(tree, manifest, states)
            _fill(workers, shape, source, manifest, progress)
            return new
        if not pool_is_empty(into.objects):
            workers.over_files(Task.LINK)
        new = check_space(tree, manifest, states)
        if new[1]:
            make_shards(into.objects)
        with Flusher(into.sync_fd, states) as flusher:
            _fill(workers, shape, source, manifest, flusher.watch(progress))
            flusher.finish(during=lambda: _pool(workers))
        _pool(workers)
    return new


def _pool(workers: unpack.Workers) -> None:
    workers.over_files(Task.POOL, only=FileState.DURABLE)


def write_papers(tree: Path, bundle: VerifiedBundle, about: bytes | None) -> None:
    """Put the bundle's own papers beside its files: what is needed to verify it for ever."""
    papers = tree / BUNDLE_DIR
    files.make_directory(papers)
    files.write_new(papers / MANIFEST_FRAME, bundle.manifest_frame)
    files.write_new(papers / SIGNED, encode_signed(bundle.signed))
    if about is not None:
        files.write_new(papers / ABOUT, about)


def make_shards(objects: Path) -> None:
    """Make the pool's directories, so that workers need not ask."""
    with files.directory(objects) as fd:
        for number in range(256):
            with contextlib.suppress(FileExistsError):
                os.mkdir(f"{number:02x}", files.PRIVATE_MODE, dir_fd=fd)


def _fill(
    workers: unpack.Workers,
    shape: Shape,
    source: Source,
    manifest: Manifest,
    progress: Callable[[int, int], None],
) -> None:
    if isinstance(source, BundleDirectory):
        check_same_paths(source, manifest)
        workers.over_files(Task.COPY)
    else:
        unpack.feed(workers, shape, source, progress)
    if workers.job.twins:
        workers.over_files(Task.TWIN)


def make_links(tree_fd: int, manifest: Manifest) -> None:
    """Make all symbolic links of a version; the directories exist."""
    try:
        for link in manifest.links:
            os.symlink(link.target, link.path, dir_fd=tree_fd)
    except OSError as error:
        raise unpacking_failed(error) from error


def first_states(manifest: Manifest) -> tuple[mmap.mmap, dict[int, int]]:
    """Mark files that need no content of their own: empty ones, and repetitions of a content.

    Returns:
        A shared `FileState` for each file; and for each repetition the file that it repeats.
    """
    states = mmap.mmap(-1, max(1, len(manifest.files)))
    seen: dict[tuple[str, bool], int] = {}
    twins: dict[int, int] = {}
    for index, file in enumerate(manifest.files):
        if not file.size:
            states[index] = FileState.EMPTY
            continue
        first = seen.setdefault((file.sha256, file.executable), index)
        if first != index:
            states[index] = FileState.TWIN
            twins[index] = first
    return states, twins


def frame_starts(manifest: Manifest) -> "array[int]":
    """For each frame, where it starts in the payload's stream."""
    return array("q", [0, *accumulate(frame.size for frame in manifest.frames)])


def pool_is_empty(objects: Path) -> bool:
    """Whether a pool has no objects yet, so that asking for each would be in vain."""
    with os.scandir(objects) as shards:
        return next(shards, None) is None


def check_space(tree: Path, manifest: Manifest, states: mmap.mmap) -> tuple[int, int]:
    """Compare what is still to be written with what the file system has.

    Returns:
        Bytes and number of files to be written.

    Raises:
        NoSpaceError: It would not fit.
    """
    missing = FileState.MISSING
    sizes = [f.size for i, f in enumerate(manifest.files) if states[i] == missing]
    needed = sum(-(-size // _BLOCK) * _BLOCK for size in sizes)
    free_bytes, free_inodes = files.free_space(tree)
    title = f"{manifest.name} {manifest.version}"
    hint = "appb gc --dry-run shows what can be freed"
    if needed + min(_SPARE_BYTES, needed // 4) > free_bytes:
        raise NoSpaceError(f"{title} needs {needed} more bytes; {free_bytes} are free", hint=hint)
    if len(sizes) > free_inodes:
        raise NoSpaceError(
            f"{title} needs {len(sizes)} more inodes; {free_inodes} are free", hint=hint
        )
    return sum(sizes), len(sizes)


def check_same_paths(source: BundleDirectory, manifest: Manifest) -> None:
    """Compare the set of a bundle directory's paths with the manifest's.

    Raises:
        CorruptError: One is too many or missing, or a link points elsewhere.
    """
    expected = {*manifest.directories, *(link.path for link in manifest.links)}
    expected |= {file.path for file in manifest.files}
    targets = {link.path: link.target for link in manifest.links}
    found = set()
    for here, directories, names, fd in os.fwalk(".", dir_fd=source.fd):
        if here == ".":
            directories[:] = [name for name in directories if name != BUNDLE_DIR]
        for name in (*directories, *names):
            path = os.path.normpath(f"{here}/{name}")
            found.add(path)
            if path in targets and _target(name, fd) != targets[path]:
                raise CorruptError(f"{escape(path)} is not the link that was signed")
    for path in sorted(found ^ expected):
        problem = "is missing" if path in expected else "is not in the manifest"
        raise CorruptError(f"{source.name}: {escape(path)} {problem}")


def _target(name: str, fd: int) -> str:
    try:
        return os.readlink(name, dir_fd=fd)
    except OSError:
        return ""


def publish(layout: Layout, staged: Staged) -> None:
    """Give a durable version its name. ★

    Raises:
        ConflictError: A version of this name is there already.
    """
    statement = staged.bundle.statement
    if files.make_directory(layout.app(statement.name)):
        files.fsync_directory(layout.apps)
    # First, so that no death can leave a version of an app without it.
    link_to_current(layout, statement.name)
    target = layout.version(statement.name, statement.version)
    try:
        libc.rename_noreplace(str(staged.tree), str(target))
    except FileExistsError as error:
        raise ConflictError(
            f"{target} exists, but is no whole version",
            hint="appb repair makes it one; appb verify says what is wrong with it",
        ) from error
    files.fsync_directory(target.parent)


def link_to_current(layout: Layout, name: AppName) -> None:
    """Make an app's link to its current version where there is none; it never changes."""
    path, target = layout.app(name) / "current", generations.current_link_target(name)
    try:
        os.symlink(target, path)
    except FileExistsError:
        if os.path.islink(path) and os.readlink(path) != target:
            files.replace_link(path, target)
