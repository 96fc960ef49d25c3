"""Unpacking a verified bundle's files with several processes: a worker's side.

The loops here decide how fast an installation is. They hold the system calls that a file needs
(open, write, close; or one link) and two digests, and no more.
"""

import errno
import hashlib
import json
import mmap
import os
import signal
import socket
import stat
import struct
from array import array
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import IntEnum

from appbundle.bundle.container import decompress
from appbundle.bundle.manifest import File, Manifest
from appbundle.bundle.payload import MAX_COMPRESSED_FRAME_SIZE
from appbundle.errors import AppbError, CorruptError
from appbundle.layout import BUNDLE_DIR
from appbundle.names import escape
from appbundle.system import libc
from appbundle.system.files import DIRECTORY_MODE, random_name, translate_os_error, write_all

MESSAGE = struct.Struct("<BIIIB")
"""Task, first file, one past the last file, frame, slot."""
FAILED = 1
_DONE = 0

_OPEN_DIRECTORY = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_NO_FILE = frozenset({errno.ELOOP, errno.ENOENT, errno.ENOTDIR, errno.ENXIO})
"""What opening says of a link, of nothing, of a path through a link, and of a socket."""
_COPY_SIZE = 1 << 20
_MODES = (0o644, 0o755)


class Task(IntEnum):
    """What a worker is asked to do."""

    DIRECTORY = 6
    """Make directories; their parents exist."""
    EMPTY = 7
    """Make empty files."""
    CHECK = 8
    """Check a frame that is not needed."""
    LINK = 1
    """Link files that the pool has."""
    FRAME = 2
    """Unpack one frame."""
    COPY = 3
    """Copy files from a bundle directory."""
    TWIN = 4
    """Link files whose content another file of this bundle has."""
    POOL = 5
    """Link new, durable files into the pool."""


class FileState(IntEnum):
    """Where a file of the job stands; one byte each in memory that all processes share."""

    MISSING = 0
    LINKED = 1
    """From the pool."""
    TWIN = 2
    """To be linked to an earlier file of the same bundle."""
    WRITTEN = 3
    DURABLE = 5
    """Written, and on the disk since: the pool may have it."""
    POOLED = 6
    EMPTY = 4
    """Nothing to unpack; never pooled, for all empty files would share one inode's link limit."""


@dataclass(frozen=True, slots=True)
class Job:
    """What workers need to know, all of it before they are forked.

    Args:
        manifest: Of a verified bundle.
        starts: For each file, where its content starts in the payload.
        frame_starts: For each frame, where it starts in the payload.
        directories: All directories, those of a depth together, the shallow ones first.
        tree_fd: The staged version's directory.
        objects_fd: The pool's directory; its shards exist.
        states: A `FileState` for each file.
        twins: For each file with state TWIN, the number of the file that has its content.
        source_fd: The bundle directory that COPY reads, or -1.
    """

    manifest: Manifest
    starts: "array[int]"
    frame_starts: "array[int]"
    directories: tuple[str, ...]
    tree_fd: int
    objects_fd: int
    states: mmap.mmap
    twins: dict[int, int]
    source_fd: int = -1


def object_name(file: File) -> str:
    """The pool's name for a content with its mode: `ab/cdef…`, and `x` if executable."""
    sha256 = file.sha256
    return f"{sha256[:2]}/{sha256[2:]}x" if file.executable else f"{sha256[:2]}/{sha256[2:]}"


def main(job: Job, slots: mmap.mmap, channel: socket.socket, parent: int) -> int:
    """Do tasks until the parent closes the channel; a worker's whole life."""
    libc.die_with_parent(signal.SIGKILL)
    if os.getppid() != parent:
        return 1
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.umask(0o022)
    hands = _Hands(job, slots)
    while message := channel.recv(MESSAGE.size):
        task, first, last, frame, slot = MESSAGE.unpack(message)
        try:
            hands.do(Task(task), first, last, frame, slot)
        except AppbError as error:
            channel.send(_last_words(error))
            return 1
        except OSError as error:
            channel.send(_last_words(unpacking_failed(error)))
            return 1
        channel.send(bytes((_DONE, task, slot)))
    return 0


def unpacking_failed(error: OSError) -> AppbError:
    """Say what an OSError means while a version is being unpacked."""
    if error.errno == errno.EEXIST:
        # The manifest names each path once, so the file system takes two names for one.
        return CorruptError(
            f"two paths of the bundle are one on this file system: {escape(str(error.filename))}",
            hint="it ignores case or Unicode forms: keep /apps on another",
        )
    return translate_os_error(error, "unpacking files")


def _last_words(error: AppbError) -> bytes:
    said = {"kind": error.kind, "what": error.what, "hint": error.hint}
    return bytes((FAILED,)) + json.dumps(said).encode()


@dataclass(slots=True)
class _Open:
    """A file whose content spans frames: written piece by piece, digested on the way."""

    index: int
    fd: int
    digest: "hashlib._Hash"


@dataclass(slots=True)
class _Hands:
    job: Job
    slots: mmap.mmap
    _directory: str | None = None
    _directory_fd: int = -1
    _open: _Open | None = None
    _twins: dict[int, int] = field(default_factory=dict)
    """Which file to link instead of the first with its content."""
    _tasks: dict[Task, Callable[[int, int], None]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._tasks = {
            Task.DIRECTORY: self._make_directories,
            Task.EMPTY: self._make_empty,
            Task.LINK: self._link,
            Task.COPY: self._copy,
            Task.TWIN: self._link_twins,
            Task.POOL: self._pool,
        }

    def do(self, task: Task, first: int, last: int, frame: int, slot: int) -> None:
        if task is Task.FRAME:
            self._unpack(frame, slot, first, last)
        elif task is Task.CHECK:
            self._compressed(frame, slot).release()
        else:
            self._tasks[task](first, last)

    def _compressed(self, index: int, slot: int) -> memoryview:
        """Give a frame's bytes once they are known to be the signed ones."""
        frame = self.job.manifest.frames[index]
        offset = slot * MAX_COMPRESSED_FRAME_SIZE
        compressed = memoryview(self.slots)[offset : offset + frame.compressed_size]
        check_frame(compressed, frame.sha256, index)
        return compressed

    def _make_directories(self, first: int, last: int) -> None:
        tree_fd = self.job.tree_fd
        for path in self.job.directories[first:last]:
            os.mkdir(path, DIRECTORY_MODE, dir_fd=tree_fd)

    def _make_empty(self, first: int, last: int) -> None:
        for index in range(first, last):
            if self.job.states[index] == FileState.EMPTY:
                os.close(self._create(self.job.manifest.files[index]))

    def _enter(self, path: str) -> str:
        """Open the directory of a path unless it is the last one's, and give the name in it."""
        parent, _, name = path.rpartition("/")
        if parent != self._directory:
            if self._directory_fd >= 0:
                os.close(self._directory_fd)
            self._directory_fd = os.open(parent or ".", _OPEN_DIRECTORY, dir_fd=self.job.tree_fd)
            self._directory = parent
        return name

    def _link(self, first: int, last: int) -> None:
        job, states, files, link = self.job, self.job.states, self.job.manifest.files, os.link
        objects_fd = job.objects_fd
        for index in range(first, last):
            if states[index] != FileState.MISSING:
                continue
            file = files[index]
            name = self._enter(file.path)
            try:
                link(
                    object_name(file),
                    name,
                    src_dir_fd=objects_fd,
                    dst_dir_fd=self._directory_fd,
                    follow_symlinks=False,
                )
            except FileNotFoundError:
                continue
            except OSError as error:
                # An inode that has all the links it can have serves no more: write a new one.
                if error.errno == errno.EMLINK:
                    continue
                raise
            states[index] = FileState.LINKED

    def _unpack(self, frame_index: int, slot: int, first: int, last: int) -> None:
        job, states, files = self.job, self.job.states, self.job.manifest.files
        frame = job.manifest.frames[frame_index]
        with self._compressed(frame_index, slot) as compressed:
            plain = memoryview(decompress(compressed, size=frame.size))
        begin = job.frame_starts[frame_index]
        end = begin + frame.size
        starts, missing, written = job.starts, FileState.MISSING, FileState.WRITTEN
        sha256, create, write, close = hashlib.sha256, os.open, os.write, os.close
        for index in range(first, last):
            if states[index] != missing:
                continue
            file = files[index]
            start, size = starts[index], file.size
            if start < begin or start + size > end:
                self._unpack_piece(index, plain[max(start - begin, 0) : start + size - begin])
                continue
            content = plain[start - begin : start - begin + size]
            if sha256(content).hexdigest() != file.sha256:
                raise _wrong_content(file)
            name = self._enter(file.path)
            fd = create(name, _CREATE, _MODES[file.executable], dir_fd=self._directory_fd)
            done = write(fd, content)
            if done != size:
                write_all(fd, content[done:])
            close(fd)
            states[index] = written

    def _unpack_piece(self, index: int, piece: memoryview) -> None:
        """Append to a file that spans frames, and check it when it is whole."""
        file, open_ = self.job.manifest.files[index], self._open
        if open_ is None or open_.index != index:
            open_ = self._open = _Open(index, self._create(file), hashlib.sha256())
        open_.digest.update(piece)
        write_all(open_.fd, piece)
        if os.lseek(open_.fd, 0, os.SEEK_CUR) < file.size:
            return
        os.close(open_.fd)
        self._open = None
        if open_.digest.hexdigest() != file.sha256:
            raise _wrong_content(file)
        self.job.states[index] = FileState.WRITTEN

    def _create(self, file: File) -> int:
        return os.open(
            self._enter(file.path), _CREATE, _MODES[file.executable], dir_fd=self._directory_fd
        )

    def _copy(self, first: int, last: int) -> None:
        for index in range(first, last):
            if self.job.states[index] == FileState.MISSING:
                file = self.job.manifest.files[index]
                self._copy_one(index, file, self.job.source_fd, to=file)

    def _copy_one(self, index: int, file: File, source_fd: int, *, to: File) -> None:
        """Copy a file from another tree, digesting the very bytes that are written."""
        digest, left = hashlib.sha256(), file.size
        try:
            source = os.open(file.path, _READ, dir_fd=source_fd)
        except OSError as error:
            if error.errno in _NO_FILE:
                raise _wrong_content(file) from error
            raise
        try:
            if not stat.S_ISREG(os.fstat(source).st_mode):
                raise _wrong_content(file)
            target = self._create(to)
            try:
                while chunk := os.read(source, _COPY_SIZE):
                    left -= len(chunk)
                    if left < 0:
                        raise _wrong_content(file)
                    digest.update(chunk)
                    write_all(target, chunk)
            finally:
                os.close(target)
        finally:
            os.close(source)
        if digest.hexdigest() != file.sha256:
            raise _wrong_content(file)
        self.job.states[index] = FileState.WRITTEN

    def _link_twins(self, first: int, last: int) -> None:
        job, files = self.job, self.job.manifest.files
        for index in range(first, last):
            if job.states[index] != FileState.TWIN:
                continue
            original = job.twins[index]
            name = self._enter(files[index].path)
            try:
                os.link(
                    files[self._twins.get(original, original)].path,
                    name,
                    src_dir_fd=job.tree_fd,
                    dst_dir_fd=self._directory_fd,
                    follow_symlinks=False,
                )
            except OSError as error:
                # An inode that has all the links it can have: copy it, and go on with the copy.
                if error.errno != errno.EMLINK:
                    raise
                self._copy_one(index, files[original], job.tree_fd, to=files[index])
                self._twins[original] = index

    def _pool(self, first: int, last: int) -> None:
        job, states, files, link = self.job, self.job.states, self.job.manifest.files, os.link
        objects_fd = job.objects_fd
        for index in range(first, last):
            if states[index] != FileState.DURABLE:
                continue
            states[index] = FileState.POOLED
            file = files[index]
            name = self._enter(file.path)
            try:
                try:
                    link(
                        name,
                        object_name(file),
                        src_dir_fd=self._directory_fd,
                        dst_dir_fd=objects_fd,
                        follow_symlinks=False,
                    )
                except FileExistsError:
                    self._replace_object(name, file)
            except OSError as error:
                # Its repetitions in this bundle took all the links; one of their copies comes too.
                if error.errno != errno.EMLINK:
                    raise

    def _replace_object(self, name: str, file: File) -> None:
        """The pool's inode has no links left to give: put the new one in its place."""
        # In the stage, so that nothing strange is left in the pool by a death before the rename.
        temporary = f"{BUNDLE_DIR}/{random_name()}"
        os.link(
            name,
            temporary,
            src_dir_fd=self._directory_fd,
            dst_dir_fd=self.job.tree_fd,
            follow_symlinks=False,
        )
        os.rename(
            temporary,
            object_name(file),
            src_dir_fd=self.job.tree_fd,
            dst_dir_fd=self.job.objects_fd,
        )


def check_frame(compressed: bytes | memoryview, sha256: str, index: int) -> None:
    """Compare a compressed frame with its signed digest.

    Raises:
        CorruptError: It differs.
    """
    if hashlib.sha256(compressed).hexdigest() != sha256:
        raise CorruptError(
            f"frame {index} of the payload is not what was signed",
            hint="the file was damaged or changed after signing: get it again",
        )


def _wrong_content(file: File) -> CorruptError:
    return CorruptError(f"the content of {escape(file.path)} is not what was signed")
