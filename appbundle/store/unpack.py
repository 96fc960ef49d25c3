"""Unpacking a verified bundle's files with several processes: the parent's side.

The parent reads compressed frames into shared memory, in order and once, so that a pipe serves as
well as a file and nothing is read twice. Workers (store/worker.py) check, decompress, check again
and write. Processes and not threads: the loop over files is system calls and little Python, and
two threads would pass the interpreter's lock to and fro at each of them.
"""

import json
import mmap
import os
import select
import signal
import socket
from bisect import bisect_right
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from appbundle.bundle.manifest import Manifest
from appbundle.bundle.payload import MAX_COMPRESSED_FRAME_SIZE, Shape
from appbundle.errors import AppbError, CorruptError, NoSpaceError
from appbundle.store import worker
from appbundle.store.source import FrameSource
from appbundle.store.worker import FileState, Job, Task

SLOTS = 2
"""Frames in flight a worker: one being unpacked, one waiting."""
_CHUNK = 512
"""Files a task of linking; small enough to share out evenly, large enough to hide the message."""
_MAX_WORKERS = 4


def worker_count() -> int:
    """As many workers as there are processors to run on, at most four."""
    return max(1, min(_MAX_WORKERS, len(os.sched_getaffinity(0))))


@dataclass(slots=True)
class _Worker:
    pid: int
    socket: socket.socket
    free_slots: list[int]
    in_flight: int = 0


class Workers:
    """A group of forked workers that share one job; use `started`."""

    def __init__(self, job: Job, slots: mmap.mmap, workers: list[_Worker]) -> None:
        self.job = job
        self._slots = slots
        self._workers = workers
        self._by_fd = {each.socket.fileno(): each for each in workers}
        self._poll = select.poll()
        for fd in self._by_fd:
            self._poll.register(fd, select.POLLIN)
        self._last: _Worker | None = None

    def over_files(self, task: Task, *, only: FileState | None = None) -> None:
        """Run one kind of task over all files, in chunks, and wait for the end.

        Args:
            only: Skip chunks in which no file has this state.
        """
        count = len(self.job.manifest.files)
        for begin in range(0, count, _CHUNK):
            end = min(begin + _CHUNK, count)
            if only is None or self.job.states.find(bytes((only,)), begin, end) >= 0:
                self._send(self._least_busy(), task, begin, end, 0, 0)
        self.wait()

    def make_directories(self) -> None:
        """Make all directories, one depth after the other."""
        begin, paths = 0, self.job.directories
        while begin < len(paths):
            depth = paths[begin].count("/")
            end = bisect_right(paths, depth, lo=begin, key=lambda path: path.count("/"))
            # Shares as large as can be: waiting for the other worker is what a depth costs.
            share = max(_CHUNK // 8, -(-(end - begin) // len(self._workers)))
            for first in range(begin, end, share):
                last = min(first + share, end)
                self._send(self._least_busy(), Task.DIRECTORY, first, last, 0, 0)
            self.wait()
            begin = end

    def frame_buffer(self, index: int, *, continues: bool) -> memoryview:
        """Give memory for a frame's compressed bytes; `unpack` then hands it to a worker.

        Args:
            continues: The frame begins inside a file, so the worker that has the file open
                must get it.
        """
        chosen = self._last if continues and self._last else self._least_busy()
        while not chosen.free_slots:
            self._receive()
        self._last = chosen
        offset = chosen.free_slots[-1] * MAX_COMPRESSED_FRAME_SIZE
        size = self.job.manifest.frames[index].compressed_size
        return memoryview(self._slots)[offset : offset + size]

    def handle(self, task: Task, index: int, first: int, last: int) -> None:
        """Let a worker unpack, or only check, the frame that was put into `frame_buffer`.

        Args:
            task: FRAME or CHECK.
            first: The first file with content in this frame.
            last: One past the last such file.
        """
        assert self._last is not None
        slot = self._last.free_slots.pop()
        self._send(self._last, task, first, last, index, slot)

    def wait(self) -> None:
        """Wait until every task is done."""
        while any(each.in_flight for each in self._workers):
            self._receive()

    def _least_busy(self) -> _Worker:
        while True:
            chosen = min(self._workers, key=lambda each: each.in_flight)
            if chosen.in_flight < SLOTS:
                return chosen
            self._receive()

    def _send(self, to: _Worker, task: Task, first: int, last: int, frame: int, slot: int) -> None:
        message = worker.MESSAGE.pack(task, first, last, frame, slot)
        try:
            to.socket.send(message)
        except OSError:
            # It died; its last words, if any, are the reason.
            self._receive_from(to)
            raise
        to.in_flight += 1

    def _receive(self) -> None:
        for fd, _ in self._poll.poll():
            self._receive_from(self._by_fd[fd])

    def _receive_from(self, sender: _Worker) -> None:
        try:
            reply = sender.socket.recv(65536)
        except ConnectionResetError:
            # It died with tasks unread, which the kernel says once, before its last words.
            reply = sender.socket.recv(65536)
        if not reply:
            raise AppbError("a process that unpacks files was killed", hint="run the command again")
        sender.in_flight -= 1
        if reply[0] == worker.FAILED:
            raise _failure(json.loads(reply[1:]))
        task, slot = reply[1], reply[2]
        if task in (Task.FRAME, Task.CHECK):
            sender.free_slots.append(slot)

    def stop(self) -> None:
        """End the workers: idle ones by closing their sockets, busy ones by force."""
        for each in self._workers:
            each.socket.close()
            if each.in_flight:
                os.kill(each.pid, signal.SIGKILL)
        for each in self._workers:
            os.waitpid(each.pid, 0)


@contextmanager
def started(job: Job) -> Iterator[Workers]:
    """Fork workers for a job; they are gone when the block is left, however it is left."""
    count = worker_count()
    slots = mmap.mmap(-1, count * SLOTS * MAX_COMPRESSED_FRAME_SIZE)
    members: list[_Worker] = []
    try:
        for number in range(count):
            members.append(_fork(job, slots, number, members))
        group = Workers(job, slots, members)
        yield group
    finally:
        Workers(job, slots, members).stop()


def _fork(job: Job, slots: mmap.mmap, number: int, elders: list[_Worker]) -> _Worker:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        # The child leaves by os._exit only: nothing of the parent's stack may run twice.
        try:
            ours.close()
            for elder in elders:
                elder.socket.close()
            status = worker.main(job, slots, theirs, parent)
        except BaseException:
            status = 1
        os._exit(status)
    theirs.close()
    first = number * SLOTS
    return _Worker(pid, ours, list(range(first, first + SLOTS)))


def _failure(said: dict[str, str]) -> AppbError:
    match said["kind"]:
        case "corrupt":
            return CorruptError(said["what"], hint=said["hint"])
        case "no-space":
            return NoSpaceError(said["what"], hint=said["hint"])
        case _:
            return AppbError(said["what"])


def frames_needed(manifest: Manifest, shape: Shape, states: "mmap.mmap | bytes") -> list[int]:
    """Find the frames that hold a file with state MISSING; ascending."""
    needed, begin, missing = [], 0, bytes((FileState.MISSING,))
    for index, frame in enumerate(manifest.frames):
        end = begin + frame.size
        first, last, _ = files_in(manifest, shape, begin, end)
        if states.find(missing, first, last) >= 0:
            needed.append(index)
        begin = end
    return needed


def feed(
    workers: Workers,
    shape: Shape,
    source: FrameSource,
    progress: Callable[[int, int], None],
) -> None:
    """Pass the frames that a source gives to workers; those not needed are only checked.

    Args:
        shape: Of the payload.
        source: Stands behind the manifest.
        progress: Called with compressed bytes done and to do.
    """
    job = workers.job
    frames, starts = job.manifest.frames, job.frame_starts
    needed = frames_needed(job.manifest, shape, job.states)
    chosen = source.choose_frames(job.manifest, needed)
    total, done = sum(frames[index].compressed_size for index in chosen), 0
    missing = frozenset(needed)
    for index in chosen:
        begin, end = starts[index], starts[index + 1]
        first, last, continues = files_in(job.manifest, shape, begin, end)
        is_missing = index in missing
        source.read_into(workers.frame_buffer(index, continues=continues and is_missing))
        workers.handle(Task.FRAME if is_missing else Task.CHECK, index, first, last)
        done += frames[index].compressed_size
        progress(done, total)
    workers.wait()
    source.finish()


def files_in(manifest: Manifest, shape: Shape, begin: int, end: int) -> tuple[int, int, bool]:
    """Find the files whose content a stretch of the payload holds.

    Returns:
        The first, one past the last, and whether the first began before the stretch.
    """
    starts = shape.starts
    first = bisect_right(starts, begin)
    continues = (
        first > 0 and starts[first - 1] + manifest.files[first - 1].size > begin > starts[first - 1]
    )
    if first > 0 and starts[first - 1] + manifest.files[first - 1].size > begin:
        first -= 1
    last = bisect_right(starts, end - 1, lo=first)
    return first, max(first, last), continues
