"""Child processes, the one way: list argv, explicit environment, stdin closed, a time limit.

A child leads a session of its own, so that all its descendants end with it, whatever ended it.
"""

import contextlib
import os
import selectors
import shlex
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from appbundle.errors import NOTHING_CHANGED, AppbError, UnsupportedError
from appbundle.names import escape

MAX_OUTPUT = 256 << 20
"""Bytes of standard output that are kept; a child that says more is ended."""
KEPT_STDERR = 64 << 10
"""Bytes of standard error that are kept: the last ones."""

_SHOWN_LINES = 12
_GRACE_S = 5.0
_CHUNK = 1 << 16
_PASSED_ON = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR")


class ProgramError(AppbError):
    """A program failed, took too long or said too much.

    Args:
        what: One sentence, with the end of what the program wrote to standard error.
        status: Its exit status, negative for a signal, None if it was ended for us.
        stderr: The end of what it wrote there.
        stdout: What it wrote to standard output; shown to nobody.
    """

    kind = "program"

    def __init__(
        self,
        what: str,
        *,
        status: int | None,
        stderr: str,
        stdout: bytes = b"",
        kept: str = NOTHING_CHANGED,
        hint: str = "",
    ) -> None:
        super().__init__(what, kept=kept, hint=hint)
        self.status = status
        self.stderr = stderr
        self.stdout = stdout


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """What a program that succeeded has said."""

    stdout: bytes
    stderr: str


@dataclass(slots=True)
class _Heard:
    stdout: bytearray = field(default_factory=bytearray)
    stderr: bytearray = field(default_factory=bytearray)

    @property
    def errors(self) -> str:
        return self.stderr.decode(errors="replace")


def basic_environment(outer: Mapping[str, str], **more: str) -> dict[str, str]:
    """Give the few variables that nearly every program needs, and what is added.

    Args:
        outer: Where they come from, usually `os.environ`.
        more: Further ones, or other values.
    """
    few = {name: outer[name] for name in _PASSED_ON if name in outer}
    return {"PATH": os.defpath, "LANG": "C.UTF-8", **few, **more}


def run(
    argv: Sequence[str],
    *,
    environment: Mapping[str, str],
    timeout_s: float,
    directory: Path | None = None,
    title: str = "",
    heard: Callable[[str], None] | None = None,
    given: bytes = b"",
) -> Finished:
    """Run a program to its end.

    Args:
        argv: The program, looked up in the *caller's* PATH if it has no slash, and its arguments.
        environment: All that it gets.
        timeout_s: After so many seconds it and its descendants are ended.
        directory: Where it starts; here if None.
        title: What errors call it; the program's name if empty.
        heard: Told each line of standard output and error as it comes, for progress.
        given: What it reads from standard input; nothing by default.

    Raises:
        UnsupportedError: There is no such program.
        ProgramError: Its exit status is not 0, or it was ended for taking too long.
    """
    with _input(given) as stdin:
        child = _start(argv, environment, directory, stdin)
    return _finish(child, argv, timeout_s=timeout_s, title=title, heard=heard)


@dataclass(slots=True)
class Waiting:
    """A program that was started early, and now waits for its standard input."""

    argv: Sequence[str]
    child: subprocess.Popen[bytes]

    def finish(self, given: bytes, *, timeout_s: float) -> Finished:
        """Give it its standard input and let it run to its end; as `run` otherwise."""
        stdin = _some(self.child.stdin)
        try:
            with contextlib.suppress(BrokenPipeError):
                # It reads all before it writes anything, or is no program to be started early.
                with stdin:
                    stdin.write(given)
        except BaseException:
            _end(self.child)
            raise
        return _finish(self.child, self.argv, timeout_s=timeout_s)

    def end(self) -> None:
        """End it, if it was not needed."""
        if self.child.returncode is None:
            with contextlib.suppress(BrokenPipeError):
                _some(self.child.stdin).close()
            _end(self.child)


def start(argv: Sequence[str], *, environment: Mapping[str, str]) -> Waiting:
    """Start a program whose standard input is not known yet.

    Raises:
        UnsupportedError: There is no such program.
    """
    return Waiting(argv, _start(argv, environment, None, subprocess.PIPE))


def _finish(
    child: subprocess.Popen[bytes],
    argv: Sequence[str],
    *,
    timeout_s: float,
    title: str = "",
    heard: Callable[[str], None] | None = None,
) -> Finished:
    said = _Heard()
    try:
        in_time = _listen(child, said, deadline=time.monotonic() + timeout_s, heard=heard)
        if in_time:
            child.wait(timeout=_GRACE_S)
    except subprocess.TimeoutExpired:
        in_time = False
    finally:
        _end(child)
    if not in_time:
        raise _failure(argv, title, f"took longer than {timeout_s:g} s", None, said)
    if len(said.stdout) > MAX_OUTPUT:
        raise _failure(argv, title, f"wrote more than {MAX_OUTPUT} bytes", None, said)
    if child.returncode != 0:
        raise _failure(argv, title, _describe_status(child.returncode), child.returncode, said)
    return Finished(stdout=bytes(said.stdout), stderr=said.errors)


def _start(
    argv: Sequence[str],
    environment: Mapping[str, str],
    directory: Path | None,
    stdin: IO[bytes] | int,
) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(
            list(argv),
            env=dict(environment),
            cwd=directory,
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
    except FileNotFoundError as e:
        raise UnsupportedError(
            f"there is no program {escape(argv[0])}", hint="install it and try again"
        ) from e
    except OSError as e:
        raise UnsupportedError(f"cannot start {escape(argv[0])}: {e.strerror}") from e


def _input(given: bytes) -> IO[bytes]:
    """A file in memory that is read from its start: nobody has to feed a pipe."""
    if not given:
        return open(os.devnull, "rb")
    file = os.fdopen(os.memfd_create("input"), "w+b")
    file.write(given)
    file.seek(0)
    return file


def _listen(
    child: subprocess.Popen[bytes],
    said: _Heard,
    *,
    deadline: float,
    heard: Callable[[str], None] | None,
) -> bool:
    """Read both pipes to their ends; False if the deadline came first."""
    with selectors.DefaultSelector() as ready:
        for pipe, into in ((child.stdout, said.stdout), (child.stderr, said.stderr)):
            ready.register(_some(pipe), selectors.EVENT_READ, (into, _Lines(heard)))
        while ready.get_map():
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                return False
            for key, _ in ready.select(left_s):
                into, lines = key.data
                piece = os.read(key.fd, _CHUNK)
                into += piece
                lines.feed(piece)
                if not piece:
                    ready.unregister(key.fileobj)
            del said.stderr[:-KEPT_STDERR]
            if len(said.stdout) > MAX_OUTPUT:
                return True
    return True


def _some(pipe: IO[bytes] | None) -> IO[bytes]:
    assert pipe is not None
    return pipe


class _Lines:
    """Cuts a stream into lines for whoever wants to hear them."""

    def __init__(self, heard: Callable[[str], None] | None) -> None:
        self._heard = heard
        self._rest = b""

    def feed(self, piece: bytes) -> None:
        if self._heard is None:
            return
        *lines, self._rest = (self._rest + piece).split(b"\n")
        if not piece and self._rest:
            lines, self._rest = [self._rest], b""
        for line in lines:
            self._heard(line.decode(errors="replace"))


def _end(child: subprocess.Popen[bytes]) -> None:
    """End what is left of a child's session, and free its pipes."""
    for number, patience_s in ((signal.SIGTERM, _GRACE_S), (signal.SIGKILL, None)):
        if child.returncode is not None:
            break
        _signal_group(child.pid, number)
        try:
            child.wait(timeout=patience_s)
        except subprocess.TimeoutExpired:
            continue
    # The leader is gone; whoever it left behind in its session goes too.
    _signal_group(child.pid, signal.SIGKILL)
    for pipe in (child.stdout, child.stderr):
        _some(pipe).close()


def _signal_group(group: int, number: signal.Signals) -> None:
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):
        return


def _describe_status(status: int) -> str:
    if status > 0:
        return f"failed with status {status}"
    try:
        return f"was ended by {signal.Signals(-status).name}"
    except ValueError:
        return f"was ended by signal {-status}"


def _failure(
    argv: Sequence[str], title: str, how: str, status: int | None, said: _Heard
) -> ProgramError:
    name = title or os.path.basename(argv[0])
    lines = [line.rstrip() for line in said.errors.splitlines() if line.strip()]
    end = "\n".join(f"  {escape(line)}" for line in lines[-_SHOWN_LINES:])
    command = escape(shlex.join(argv))
    return ProgramError(
        f"{name} {how}" + (f":\n{end}" if end else ""),
        status=status,
        stderr=said.errors,
        stdout=bytes(said.stdout),
        hint=f"it was called as: {command}",
    )
