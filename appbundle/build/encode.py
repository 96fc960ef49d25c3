"""From a tree to a bundle: tables, dates, frames, file. docs/format.md is what it writes.

The payload goes into a spool beside the target while frames are compressed, because the manifest,
which stands before it, lists the frames' digests; so memory does not grow with the bundle.
"""

import hashlib
import os
import secrets
import shutil
import stat
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import zstandard

from appbundle.bundle import container, payload, rules
from appbundle.bundle.manifest import File, Frame, Link, Manifest
from appbundle.bundle.statement import MAX_MANIFEST_SIZE, Signed, Statement, encode_signed
from appbundle.errors import BuildError, ConflictError, CorruptError
from appbundle.layout import BUNDLE_DIR, MANIFEST_FRAME, SIGNED
from appbundle.names import AppName, Digest, Version, escape
from appbundle.system import files as filesystem
from appbundle.system import libc

DEFAULT_LEVEL = 12
MIN_LEVEL, MAX_LEVEL = 1, 22

_CHUNK = 1 << 20
_BATCH = 128
_EXECUTABLE = 0o111
_OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC

Progress = Callable[[int, int], None]


def _nobody(done: int, total: int) -> None:
    """Tell nobody how far it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tables:
    """Everything in a tree, as a manifest lists it.

    Args:
        directories: Relative paths, sorted.
        links: Sorted by path.
        files: In payload order once `date_files` has set their releases.
    """

    directories: tuple[str, ...]
    links: tuple[Link, ...]
    files: tuple[File, ...]


@dataclass(frozen=True, slots=True)
class Payload:
    """Compressed frames that stand one after the other in an open file.

    Args:
        fd: Readable and seekable; its position does not matter.
        offset: Of the first frame.
        size: Bytes of all of them.
    """

    fd: int
    offset: int
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoded:
    """A bundle but for its signatures and its place on disk.

    Args:
        manifest: As the frame holds it.
        statement: What is to be signed.
        manifest_frame: Compressed.
        payload: Compressed frames.
    """

    manifest: Manifest
    statement: Statement
    manifest_frame: bytes
    payload: Payload


# Tables -------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Found:
    """What a walk has met so far; `files` are paths with their modes."""

    directories: list[str] = field(default_factory=list)
    links: list[Link] = field(default_factory=list)
    files: list[tuple[str, bool]] = field(default_factory=list)


def scan_tree(tree: Path, *, progress: Progress = _nobody) -> Tables:
    """List a tree and hash its files, on all processors.

    Args:
        tree: Its directory.
        progress: Told files done and files in all.

    Raises:
        BuildError: It holds something else than files, directories and links.
    """
    found = _Found()
    _walk(os.fspath(tree), "", found)
    found.files.sort()
    batches = [found.files[at : at + _BATCH] for at in range(0, len(found.files), _BATCH)]
    hashed: list[File] = []
    with filesystem.directory(tree) as tree_fd, ThreadPoolExecutor(_processors()) as pool:
        for batch in pool.map(lambda each: [_describe(tree_fd, *file) for file in each], batches):
            hashed += batch
            progress(len(hashed), len(found.files))
    return Tables(
        directories=tuple(sorted(found.directories)),
        links=tuple(sorted(found.links, key=lambda link: link.path)),
        files=tuple(hashed),
    )


def _walk(here: str, prefix: str, found: _Found) -> None:
    with os.scandir(here) as entries:
        for entry in entries:
            path = prefix + entry.name
            mode = entry.stat(follow_symlinks=False).st_mode
            if stat.S_ISLNK(mode):
                found.links.append(Link(path, os.readlink(entry.path)))
            elif stat.S_ISDIR(mode):
                found.directories.append(path)
                _walk(entry.path, path + "/", found)
            elif stat.S_ISREG(mode):
                found.files.append((path, bool(mode & _EXECUTABLE)))
            else:
                raise BuildError(f"{escape(path)} is neither a file, a directory nor a link")


def _describe(tree_fd: int, path: str, executable: bool) -> File:
    digest = hashlib.sha256()
    size = 0
    for piece in _pieces(tree_fd, path):
        digest.update(piece)
        size += len(piece)
    return File(path, size, Digest(digest.hexdigest()), executable, 0)


def _pieces(tree_fd: int, path: str) -> Iterator[bytes]:
    fd = os.open(path, _OPEN, dir_fd=tree_fd)
    try:
        while piece := os.read(fd, _CHUNK):
            yield piece
    finally:
        os.close(fd)


def date_files(
    files: Iterable[File], *, release: int, previous: Manifest | None
) -> tuple[File, ...]:
    """Set the release in which each file last changed, and bring them into payload order.

    Args:
        files: Just scanned.
        release: Of the bundle in the making.
        previous: The bundle before; its files keep their dates where path, content and mode agree.
    """
    known = {
        (old.path, old.sha256, old.executable): old.since
        for old in (previous.files if previous else ())
    }

    def since(file: File) -> int:
        return known.get((file.path, file.sha256, file.executable), release)

    dated = [msgspec.structs.replace(file, since=since(file)) for file in files]
    return tuple(sorted(dated, key=lambda file: (file.since, file.path)))


# Frames -------------------------------------------------------------------------------------------


def read_checked(tree_fd: int, file: File) -> Iterator[bytes]:
    """Give a file's content; it must still be what was hashed.

    Raises:
        BuildError: It changed in between.
    """
    digest = hashlib.sha256()
    size = 0
    for piece in _pieces(tree_fd, file.path):
        digest.update(piece)
        size += len(piece)
        if size > file.size:
            break
        yield piece
    if size != file.size or digest.hexdigest() != file.sha256:
        raise BuildError(f"{escape(file.path)} changed while the bundle was being made")


def write_frames(
    fd: int,
    tables: Tables,
    *,
    sizes: Iterable[int],
    mtime: int,
    level: int,
    tree_fd: int,
    progress: Progress = _nobody,
) -> tuple[Frame, ...]:
    """Compress the payload into a file, on all processors; memory stays at a few frames.

    Args:
        fd: Where to; written from its position on.
        tables: Of the tree; files in payload order.
        sizes: Of the plain frames, from `payload.cut` or a manifest.
        mtime: Of every tar member.
        level: zstd's.
        tree_fd: The tree's directory.
        progress: Told bytes done and bytes in all.

    Returns:
        The frames in order.
    """
    sizes = list(sizes)
    total, done = sum(sizes), 0
    plain = payload.plain_frames(
        directories=tables.directories,
        links=tables.links,
        files=tables.files,
        mtime=mtime,
        sizes=sizes,
        read=lambda file: read_checked(tree_fd, file),
    )
    frames = []
    with ThreadPoolExecutor(_processors()) as pool:
        for frame, compressed in _in_order(pool, plain, level):
            filesystem.write_all(fd, compressed)
            frames.append(frame)
            done += frame.size
            progress(done, total)
    return tuple(frames)


def _in_order(
    pool: ThreadPoolExecutor, plain: Iterator[bytes], level: int
) -> Iterator[tuple[Frame, bytes]]:
    pending: deque[Future[tuple[Frame, bytes]]] = deque()
    for each in plain:
        pending.append(pool.submit(_compress, each, level))
        if len(pending) > 2 * _processors():
            yield pending.popleft().result()
    while pending:
        yield pending.popleft().result()


def _compress(plain: bytes, level: int) -> tuple[Frame, bytes]:
    compressed = container.compress(plain, level=level)
    digest = Digest(hashlib.sha256(compressed).hexdigest())
    return Frame(len(compressed), len(plain), digest), compressed


def _processors() -> int:
    return len(os.sched_getaffinity(0))


# The whole ----------------------------------------------------------------------------------------


def compression_name(level: int) -> str:
    """What made the frames, as the manifest records it: `zstd 1.5.7 level 12`."""
    return f"zstd {'.'.join(map(str, zstandard.ZSTD_VERSION))} level {level}"


@contextmanager
def encode(
    tree: Path,
    description: Manifest,
    *,
    spool: Path,
    previous: Manifest | None = None,
    level: int = DEFAULT_LEVEL,
    accept: Callable[[Tables], None] = lambda _: None,
    step: Callable[[str], None] = lambda _: None,
    progress: Progress = _nobody,
) -> Iterator[Encoded]:
    """Make everything of a bundle but signatures and file.

    Args:
        tree: What the bundle contains.
        description: The manifest without tables and frames.
        spool: A directory for the compressed payload; best on the target's file system.
        previous: Manifest of the bundle before this one, for the order of the payload.
        level: zstd's.
        accept: Given the tables before the long compression; it may refuse them by raising.
        step: Told what begins.
        progress: Told how far it is.

    Yields:
        The bundle; its payload is gone afterwards.

    Raises:
        BuildError: The tree changes meanwhile, or holds what no bundle can.
        ManifestError: The manifest would break a rule.
    """
    step(f"hashing {description.name} {description.version}")
    scanned = scan_tree(tree, progress=progress)
    accept(scanned)
    dated = date_files(scanned.files, release=description.release, previous=previous)
    tables = Tables(directories=scanned.directories, links=scanned.links, files=dated)
    step(f"compressing {description.name} {description.version}")
    with filesystem.directory(tree) as tree_fd, _spool(spool) as fd:
        frames = write_frames(
            fd,
            tables,
            sizes=payload.cut(payload.measure(tables.directories, tables.links, dated), dated),
            mtime=description.created,
            level=level,
            tree_fd=tree_fd,
            progress=progress,
        )
        yield _finish(description, tables, frames, previous=previous, level=level, fd=fd)


def _finish(
    description: Manifest,
    tables: Tables,
    frames: tuple[Frame, ...],
    *,
    previous: Manifest | None,
    level: int,
    fd: int,
) -> Encoded:
    manifest = msgspec.structs.replace(
        description,
        previous=digest_of(previous) if previous else "",
        compression=compression_name(level),
        directories=tables.directories,
        links=tables.links,
        files=tables.files,
        frames=frames,
    )
    rules.check_manifest(manifest)
    raw = rules.encode_manifest(manifest)
    frame = container.encode_manifest_frame(raw, mtime=manifest.created, level=level)
    if max(len(raw), len(frame)) > MAX_MANIFEST_SIZE:
        raise BuildError(f"the manifest takes more than {MAX_MANIFEST_SIZE} bytes: too many files")
    return Encoded(
        manifest=manifest,
        statement=_state(manifest, raw, frame),
        manifest_frame=frame,
        payload=Payload(fd, 0, sum(frame.compressed_size for frame in frames)),
    )


def digest_of(manifest: Manifest) -> Digest:
    """Give the identity of a bundle: the SHA-256 of its manifest's one encoding."""
    return Digest(hashlib.sha256(rules.encode_manifest(manifest)).hexdigest())


def _state(manifest: Manifest, raw: bytes, frame: bytes) -> Statement:
    return Statement(
        name=AppName(manifest.name),
        version=Version(manifest.version),
        release=manifest.release,
        manifest_frame_size=len(frame),
        manifest_frame_sha256=Digest(hashlib.sha256(frame).hexdigest()),
        manifest_size=len(raw),
        manifest_sha256=Digest(hashlib.sha256(raw).hexdigest()),
    )


@contextmanager
def _spool(directory: Path) -> Iterator[int]:
    """Give a file without a name, which no death can leave behind where the system allows it."""
    path = directory / f".spool.{secrets.token_hex(6)}"
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, filesystem.FILE_MODE)
    try:
        os.unlink(path)
        yield fd
    finally:
        os.close(fd)


# On disk ------------------------------------------------------------------------------------------


def write_bundle_file(
    target: Path, *, signed: Signed, manifest_frame: bytes, frames: Payload
) -> int:
    """Put a bundle file in place with one durable rename; also what signing and packing need.

    Args:
        target: The file; replaced if it exists, even if `frames` are read from it.
        signed: Statement and signatures.
        manifest_frame: As the statement says.
        frames: The payload, wherever it stands.

    Returns:
        The file's size in bytes.

    Raises:
        CorruptError: The signatures do not fit, or the payload is shorter than was said.
    """
    head = container.encode_head(signed)
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(6)}")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = os.open(temporary, flags, filesystem.FILE_MODE)
    try:
        try:
            os.fchmod(fd, filesystem.FILE_MODE)
            filesystem.write_all(fd, head + manifest_frame)
            _copy(frames, fd)
            filesystem.write_all(fd, container.END_FRAME)
            os.fsync(fd)
        finally:
            os.close(fd)
        os.rename(temporary, target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    filesystem.fsync_directory(target.parent)
    return len(head) + len(manifest_frame) + frames.size + len(container.END_FRAME)


def _copy(frames: Payload, fd: int) -> None:
    """Copy inside the kernel where both files allow it, which may even share the blocks."""
    position, end = frames.offset, frames.offset + frames.size
    with suppress(OSError):
        while position < end:
            count = os.copy_file_range(frames.fd, fd, end - position, position)
            if not count:
                break
            position += count
    while position < end:
        piece = os.pread(frames.fd, min(_CHUNK, end - position), position)
        if not piece:
            raise CorruptError("the bundle ends inside its payload")
        filesystem.write_all(fd, piece)
        position += len(piece)


def write_bundle_directory(
    target: Path, tree: Path, *, signed: Signed, manifest_frame: bytes
) -> None:
    """Put a bundle directory in place: the tree, and `.bundle` with manifest frame and signatures.

    Args:
        target: Must not exist.
        tree: Copied.
        signed: Statement and signatures.
        manifest_frame: As the statement says.

    Raises:
        ConflictError: The target exists.
    """
    check_new(target)
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(6)}")
    try:
        shutil.copytree(tree, temporary, symlinks=True)
        os.chmod(temporary, filesystem.DIRECTORY_MODE)
        own = temporary / BUNDLE_DIR
        filesystem.make_directory(own)
        filesystem.write_new(own / MANIFEST_FRAME, manifest_frame)
        filesystem.write_new(own / SIGNED, encode_signed(signed))
        with filesystem.directory(temporary) as fd:
            libc.syncfs(fd)
        libc.rename_noreplace(os.fspath(temporary), os.fspath(target))
    except BaseException:
        filesystem.remove_tree(temporary)
        raise
    filesystem.fsync_directory(target.parent)


def check_new(target: Path) -> None:
    """Refuse to replace a directory.

    Raises:
        ConflictError: Something has this name.
    """
    if os.path.lexists(target):
        raise ConflictError(
            f"{escape(str(target))} exists already", hint="remove it, or name another directory"
        )
