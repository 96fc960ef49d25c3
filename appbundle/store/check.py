"""Comparing what is on disk with the signed manifest: changed, missing and extra entries."""

import contextlib
import hashlib
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from appbundle.bundle.manifest import File, Manifest
from appbundle.layout import ABOUT, BUNDLE_DIR, MANIFEST_FRAME, SIGNED, Layout
from appbundle.store.source import BundleDirectory
from appbundle.store.stage import check_same_paths
from appbundle.store.worker import object_name
from appbundle.system import files

_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_PIECE = 1 << 20
_PAPERS = frozenset(f"{BUNDLE_DIR}/{name}" for name in (ABOUT, MANIFEST_FRAME, SIGNED))
_BATCH = 256

Identity = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class Problem:
    """One difference.

    Args:
        path: Relative to the version's directory, or to the pool.
        problem: In words: `changed`, `missing`, `extra`, `mode 0777 instead of 0644`…
    """

    path: str
    problem: str


@dataclass(slots=True)
class Digests:
    """Digests of inodes that were read already: what is linked twice is read once.

    An inode counts as read only while its size and times stay what they were.
    """

    _known: dict[Identity, str] = field(default_factory=dict)

    def of(self, path: str, dir_fd: int) -> tuple[os.stat_result, str]:
        """Read a regular file.

        Returns:
            Its status, and the SHA-256 of its content (empty if it is no regular file).
        """
        fd = os.open(path, _READ, dir_fd=dir_fd)
        try:
            status = os.fstat(fd)
            if not stat.S_ISREG(status.st_mode):
                return status, ""
            identity = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
            known = self._known.get(identity)
            if known is None:
                known = self._known[identity] = _digest(fd)
            return status, known
        finally:
            os.close(fd)


def _digest(fd: int) -> str:
    digest = hashlib.sha256()
    while piece := os.read(fd, _PIECE):
        digest.update(piece)
    return digest.hexdigest()


def check_tree(
    tree: Path, manifest: Manifest, digests: Digests, *, progress: Callable[[int], None]
) -> list[Problem]:
    """Compare a version's directory with its manifest, every byte of it.

    Args:
        tree: The directory; its `.bundle/` is not looked at but for extra files.
        progress: Called with the number of files just read.

    Returns:
        What differs, sorted by path.
    """
    with files.directory(tree) as fd:
        problems = _check_content(fd, manifest, digests, progress)
        problems += _check_homes(fd)
    problems += _extra(tree, manifest)
    return sorted(problems, key=lambda each: each.path)


def check_directory(source: BundleDirectory, manifest: Manifest) -> list[Problem]:
    """Compare a bundle directory with its manifest; modes are not part of what it promises."""
    check_same_paths(source, manifest)
    found = _check_content(source.fd, manifest, Digests(), lambda _: None)
    return [each for each in found if not each.problem.startswith(("mode ", "belongs "))]


def _check_content(
    fd: int, manifest: Manifest, digests: Digests, progress: Callable[[int], None]
) -> list[Problem]:
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        problems = list(_check_structure(fd, manifest))
        batches = [manifest.files[i : i + _BATCH] for i in range(0, len(manifest.files), _BATCH)]
        for found in threads.map(lambda batch: list(_check_files(fd, batch, digests)), batches):
            problems += found
            progress(_BATCH)
    return problems


def _check_homes(fd: int) -> Iterator[Problem]:
    """Check what no manifest lists: the tree's own directory, and the bundle's papers."""
    homes = {".": files.DIRECTORY_MODE, BUNDLE_DIR: files.DIRECTORY_MODE}
    for path, mode in (homes | dict.fromkeys(sorted(_PAPERS), files.FILE_MODE)).items():
        with contextlib.suppress(OSError):
            yield from _check_mode(path, os.lstat(path, dir_fd=fd), mode)


def damaged_files(tree: Path, table: Iterable[File]) -> list[File]:
    """Those files of a version with wrong content, mode or owner; missing ones are not these."""
    digests, damaged = Digests(), []
    with files.directory(tree) as fd:
        for file in table:
            try:
                status, sha256 = digests.of(file.path, fd)
            except OSError:
                continue
            if any(_compare(file, status, sha256)):
                damaged.append(file)
    return damaged


def _check_structure(fd: int, manifest: Manifest) -> Iterator[Problem]:
    for path in manifest.directories:
        try:
            status = os.lstat(path, dir_fd=fd)
        except OSError:
            yield Problem(path, "missing")
            continue
        if not stat.S_ISDIR(status.st_mode):
            yield Problem(path, "not a directory")
        else:
            yield from _check_mode(path, status, files.DIRECTORY_MODE)
    for link in manifest.links:
        try:
            target = os.readlink(link.path, dir_fd=fd)
        except FileNotFoundError:
            yield Problem(link.path, "missing")
        except OSError:
            yield Problem(link.path, "not a link")
        else:
            if target != link.target:
                yield Problem(link.path, f"points to {target} instead of {link.target}")


def _check_files(fd: int, batch: Iterable[File], digests: Digests) -> Iterator[Problem]:
    for file in batch:
        try:
            status, sha256 = digests.of(file.path, fd)
        except FileNotFoundError:
            yield Problem(file.path, "missing")
        except OSError as error:
            yield Problem(file.path, f"unreadable: {error.strerror}")
        else:
            yield from _compare(file, status, sha256)


def _compare(file: File, status: os.stat_result, sha256: str) -> Iterator[Problem]:
    if not sha256:
        yield Problem(file.path, "not a regular file")
    elif sha256 != file.sha256:
        yield Problem(file.path, "changed")
    yield from _check_mode(file.path, status, 0o755 if file.executable else 0o644)


def _check_mode(path: str, status: os.stat_result, expected: int) -> Iterator[Problem]:
    mode = stat.S_IMODE(status.st_mode)
    if mode != expected:
        yield Problem(path, f"mode {mode:04o} instead of {expected:04o}")
    if os.geteuid() == 0 and (status.st_uid or status.st_gid):
        yield Problem(path, f"belongs to {status.st_uid}:{status.st_gid} instead of root")


def _extra(tree: Path, manifest: Manifest) -> Iterator[Problem]:
    expected = {*manifest.directories, *(link.path for link in manifest.links), *_PAPERS}
    expected |= {file.path for file in manifest.files} | {BUNDLE_DIR}
    todo = [""]
    while todo:
        here = todo.pop()
        with os.scandir(tree / here) as entries:
            for entry in entries:
                path = f"{here}/{entry.name}" if here else entry.name
                if path not in expected:
                    yield Problem(path, "extra")
                elif entry.is_dir(follow_symlinks=False):
                    todo.append(path)


def check_pool(layout: Layout, digests: Digests) -> tuple[int, list[Problem]]:
    """Read every object of the pool whose inode was not read yet.

    Returns:
        How many objects there are, and the damaged ones, by path below the pool.
    """
    names = list(object_names(layout))
    problems: list[Problem] = []
    if not names:
        return 0, problems
    with files.directory(layout.objects) as fd:
        for name in names:
            status, sha256 = digests.of(name, fd)
            expected = name.replace("/", "").removesuffix("x")
            mode = 0o755 if name.endswith("x") else 0o644
            if sha256 != expected:
                problems.append(Problem(name, "damaged pool object"))
            problems += _check_mode(name, status, mode)
    return len(names), problems


def object_names(layout: Layout) -> Iterator[str]:
    """Every object of the pool, as `ab/cdef…`."""
    try:
        shards = sorted(os.listdir(layout.objects))
    except FileNotFoundError:
        return
    for shard in shards:
        for name in sorted(os.listdir(layout.objects / shard)):
            yield f"{shard}/{name}"


def drop_damaged_objects(layout: Layout, suspects: Iterable[File]) -> int:
    """Take damaged objects out of the pool, so that nothing new is linked to them.

    Returns:
        How many.
    """
    digests, dropped = Digests(), 0
    with files.directory(layout.objects) as fd:
        for file in suspects:
            name = object_name(file)
            try:
                status, sha256 = digests.of(name, fd)
            except FileNotFoundError:
                continue
            if any(_compare(file, status, sha256)):
                os.unlink(name, dir_fd=fd)
                dropped += 1
    return dropped


def relink(layout: Layout, stage: Path, tree: Path, damaged: Iterable[File]) -> list[File]:
    """Replace damaged files of a version by the pool's objects, each with one rename.

    Args:
        stage: A directory of this transaction: what a death leaves is rubbish there.

    Returns:
        Those that the pool does not have.
    """
    left = []
    with files.directory(layout.objects) as objects_fd, files.directory(tree) as tree_fd:
        for file in damaged:
            temporary = stage / files.random_name()
            try:
                os.link(object_name(file), temporary, src_dir_fd=objects_fd)
            except OSError:
                left.append(file)
                continue
            os.rename(temporary, file.path, dst_dir_fd=tree_fd)
    return left
