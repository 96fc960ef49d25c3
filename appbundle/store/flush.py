"""Writing back early: the disk works while files are still being unpacked.

What was written before a flush began is durable when it ends, and may then enter the pool; so the
last flush is short, and linking into the pool happens while the disk is busy with it.
"""

import mmap
import threading
from collections.abc import Callable
from types import TracebackType

from appbundle.store.worker import FileState
from appbundle.system import libc
from appbundle.system.files import translate_os_error

_EARLY_BYTES = 12 << 20
"""Compressed bytes between two early flushes; smaller bundles have only the last one."""


class Flusher:
    """Flushes a file system from a thread while other processes write to it.

    Args:
        fd: An open file on it; write errors since it was opened are reported.
        states: A `FileState` for each file of the version that is being written; those found
            WRITTEN when a flush begins are DURABLE when it ends.
    """

    def __init__(self, fd: int, states: mmap.mmap) -> None:
        self._fd = fd
        self._states = states
        self._wanted = threading.Event()
        self._ending = False
        self._error: OSError | None = None
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._flushed = 0

    def __enter__(self) -> "Flusher":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ending = True
        self._wanted.set()
        if self._thread.is_alive():
            self._thread.join()

    def watch(self, progress: Callable[[int, int], None]) -> Callable[[int, int], None]:
        """Give a progress callback that also decides when to flush."""

        def advance(done: int, total: int) -> None:
            progress(done, total)
            if done - self._flushed >= _EARLY_BYTES and not self._wanted.is_set():
                self._flushed = done
                if not self._thread.is_alive():
                    self._thread.start()
                self._wanted.set()

        return advance

    def finish(self, *, during: Callable[[], None]) -> None:
        """Flush once more, when everything is written.

        Args:
            during: What to do meanwhile; called when earlier flushes are over.

        Raises:
            AppbError: Something could not be written back.
        """
        self.__exit__(None, None, None)
        last = threading.Thread(target=self._flush, daemon=True)
        last.start()
        try:
            during()
        finally:
            last.join()
        if self._error is not None:
            raise translate_os_error(self._error, "making the new version durable") from self._error

    def _work(self) -> None:
        while not self._ending:
            self._wanted.wait()
            if not self._ending:
                self._flush()
            self._wanted.clear()

    def _flush(self) -> None:
        written = self._states[:]
        try:
            libc.syncfs(self._fd)
        except OSError as error:
            self._error = self._error or error
            return
        index = written.find(FileState.WRITTEN)
        while index >= 0:
            self._states[index] = FileState.DURABLE
            index = written.find(FileState.WRITTEN, index + 1)
