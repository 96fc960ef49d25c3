"""Start child processes, time them whole, and learn how much memory they took."""

import contextlib
import os
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

TIME_LIMIT_S = 300.0
"""No child of a benchmark may take longer; it is killed, and the benchmark ends with an error."""

_SAMPLE_EVERY_S = 0.01
SEARCH_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""The children's PATH."""


class ChildFailed(Exception):
    """A child process exited with a failure or ran into the time limit.

    Args:
        what: For people.
        status: Its exit code.
    """

    def __init__(self, what: str, status: int | None = None) -> None:
        super().__init__(what)
        self.status = status


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """One child process.

    Args:
        argv: Program and arguments.
        env: What it gets beside PATH, HOME and LANG.
        stdin: A file to read from; nothing by default.
    """

    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    stdin: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What a chain of commands took.

    Args:
        seconds: From before the first fork to after the last wait.
        cpu_seconds: User and system time of all of them.
        peak_rss_bytes: Resident set of the largest single process, shared pages included. Looked up
            in /proc: getrusage(2) counts the parent's pages before exec(2) as the child's.
        peak_pss_bytes: The largest sum over the processes that lived at one moment, where each
            shared page is divided among its users.
    """

    seconds: float
    cpu_seconds: float
    peak_rss_bytes: int = 0
    peak_pss_bytes: int = 0


def command(*argv: str | Path, stdin: Path | None = None, **env: str) -> Command:
    """Make a `Command` from words and, as keywords, environment variables."""
    return Command(argv=tuple(map(str, argv)), env=env, stdin=stdin)


def sync_filesystem(path: Path) -> Command:
    """The command that makes everything on the file system of `path` durable: syncfs(2)."""
    return command("sync", "-f", path)


def run(
    chain: Sequence[Command], *, sample_memory: bool = False, time_limit_s: float = TIME_LIMIT_S
) -> Usage:
    """Run the commands one after the other and add up what they took.

    Args:
        chain: At least one command.
        sample_memory: Also look at all living processes about every 10 ms, which costs time.
        time_limit_s: For each command.

    Raises:
        ChildFailed: One failed; its last lines of output are in the message.
    """
    cpu_seconds, peak_rss_bytes, peak_pss_bytes = 0.0, 0, 0
    start = time.perf_counter()
    for each in chain:
        usage = _run_one(each, sample_memory, time_limit_s)
        cpu_seconds += usage.cpu_seconds
        peak_rss_bytes = max(peak_rss_bytes, usage.peak_rss_bytes)
        peak_pss_bytes = max(peak_pss_bytes, usage.peak_pss_bytes)
    return Usage(
        seconds=time.perf_counter() - start,
        cpu_seconds=cpu_seconds,
        peak_rss_bytes=peak_rss_bytes,
        peak_pss_bytes=peak_pss_bytes,
    )


def output(each: Command, *, time_limit_s: float = TIME_LIMIT_S) -> str:
    """Run one command and return what it wrote to stdout.

    Raises:
        ChildFailed: It failed.
    """
    with tempfile.TemporaryFile() as out:
        _run_one(each, False, time_limit_s, stdout=out.fileno())
        out.seek(0)
        return out.read().decode(errors="replace")


def _run_one(
    each: Command, sample_memory: bool, time_limit_s: float, stdout: int | None = None
) -> Usage:
    with tempfile.TemporaryFile() as talk, _stdin(each) as stdin:
        start = time.perf_counter()
        child = subprocess.Popen(
            each.argv,
            stdin=stdin,
            stdout=talk if stdout is None else stdout,
            stderr=talk,
            env={"PATH": SEARCH_PATH, "HOME": "/root", "LANG": "C.UTF-8", **each.env},
            start_new_session=True,
        )
        limit = threading.Timer(time_limit_s, _kill_session, [child.pid])
        limit.daemon = True
        limit.start()
        try:
            with _Sampler(child.pid, enabled=sample_memory) as sampler:
                _, status, usage = os.wait4(child.pid, 0)
        except BaseException:
            _kill_session(child.pid)
            raise
        finally:
            limit.cancel()
        seconds = time.perf_counter() - start
        child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode:
            talk.seek(0)
            tail = talk.read()[-2000:].decode(errors="replace").strip()
            late = f" (time limit: {time_limit_s:g} s)" if seconds >= time_limit_s else ""
            what = f"exit {child.returncode}{late}: {' '.join(each.argv)[:300]}\n{tail}"
            raise ChildFailed(what, child.returncode)
    return Usage(
        seconds=seconds,
        cpu_seconds=usage.ru_utime + usage.ru_stime,
        peak_rss_bytes=sampler.peak_rss_bytes,
        peak_pss_bytes=sampler.peak_pss_bytes,
    )


@contextlib.contextmanager
def _stdin(each: Command) -> Iterator[int]:
    if each.stdin is None:
        yield subprocess.DEVNULL
        return
    with each.stdin.open("rb") as source:
        yield source.fileno()


def _kill_session(leader: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(leader, signal.SIGKILL)


class _Sampler:
    """Watches a process and its descendants from a thread."""

    def __init__(self, root: int, *, enabled: bool) -> None:
        self.peak_rss_bytes = 0
        self.peak_pss_bytes = 0
        self._root = root
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True) if enabled else None

    def __enter__(self) -> "_Sampler":
        if self._thread:
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        if self._thread:
            self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(_SAMPLE_EVERY_S):
            pids = family(self._root)
            now = sum(proc_bytes(pid, "smaps_rollup", "Pss:") for pid in pids)
            self.peak_pss_bytes = max(self.peak_pss_bytes, now)
            largest = max(proc_bytes(pid, "status", "VmHWM:") for pid in pids)
            self.peak_rss_bytes = max(self.peak_rss_bytes, largest)


def family(root: int) -> list[int]:
    """A process and all its descendants, as far as they still live."""
    found = [root]
    for pid in found:
        with contextlib.suppress(OSError):
            for task in os.listdir(f"/proc/{pid}/task"):
                with open(f"/proc/{pid}/task/{task}/children") as children:
                    found += map(int, children.read().split())
    return found


def proc_bytes(pid: int, file: str, key: str) -> int:
    """A value in kB from /proc, or 0 if the process ended between two looks."""
    with contextlib.suppress(OSError):
        with open(f"/proc/{pid}/{file}") as lines:
            for line in lines:
                if line.startswith(key):
                    return int(line.split()[1]) * 1024
    return 0
