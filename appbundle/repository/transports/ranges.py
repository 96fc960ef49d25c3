"""Parts of a file over HTTP: ranges where the server has them, the whole stream where not.

RFC 9110, 14. A range is one request; several run at once, a little ahead of what is taken. What
breaks off goes on where it broke. What the bytes are is for whoever asked to check: here it is
only seen to that they are those of the right places.
"""

import queue
import re
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

from appbundle.errors import AppbError, CorruptError, NotFoundError, UnreachableError
from appbundle.repository.transports.http_client import Response
from appbundle.repository.transports.stretches import behind, cut, join, span_of, split
from appbundle.repository.transports.transport import Stretch

OK, PARTIAL = 200, 206
_MISSING = frozenset({403, 404, 410})
"""403 is what object stores say of a file that they lack to one who may not list."""
_CONTENT_RANGE = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(?:(\d{1,18})|\*)", re.ASCII)

_GAP_BYTES = 4 << 10
"""Unwanted bytes that cost less than another request."""
_PART_BYTES = 2 << 20
_PARTS_AHEAD = 4
"""So many requests at once; as many parts may be in memory."""
_PROGRESS_BYTES = 1 << 16
"""A connection that brought so much before it broke counts as one that worked."""
_PAUSES_S = (0.2, 1.0, 3.0)
"""Before asking again where nothing came: afterwards it is given up."""
_LEAST_RATE = 4096
_GRACE_S = 120.0

Ask = Callable[[Mapping[str, str]], Response]
"""Sends a GET for one file with headers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Remote:
    """A file on a web server.

    Args:
        name: For messages, escaped.
        size: Bytes, as authenticated metadata say.
        ask: Asks for it.
    """

    name: str
    size: int
    ask: Ask


class _WholeOnlyError(Exception):
    """A server that gave ranges gives one no longer."""


@dataclass(frozen=True, slots=True)
class _Answer:
    """An answer with bytes of a file, from some offset on, which is 0 if it has all of them."""

    start: int
    response: Response
    is_whole: bool


def check_status(response: Response, name: str) -> None:
    """Refuse an answer without the file.

    Raises:
        NotFoundError: There is no such file.
        UnreachableError: The server cannot or may not give it.
    """
    if response.status in (OK, PARTIAL):
        return
    response.close()
    if response.status in _MISSING:
        raise NotFoundError(f"there is no {name} (status {response.status})")
    raise UnreachableError(f"{response.origin} answers {response.status} for {name}")


def read_stretches(remote: Remote, stretches: Sequence[Stretch]) -> Iterator[bytes]:
    """Read parts of a file, as `Transport.read_stretches` has it.

    Raises:
        UnreachableError: Also if all of it takes longer than the least rate allows.
    """
    if not stretches:
        return
    parts = split(join(stretches, gap=_GAP_BYTES), size=_PART_BYTES)
    first = _retried(lambda: _open(remote, parts[0]))
    if first.is_whole:
        whole = span_of(parts)
        yield from cut(_paced(_resumed(remote, whole, first), whole.end), [whole], stretches)
        return
    size = sum(each.size for each in parts)
    yield from cut(_paced(_parallel(remote, parts, first), size), parts, stretches)


def _paced(pieces: Iterator[bytes], size: int) -> Iterator[bytes]:
    """Give up when so many bytes should have come by now; only waiting counts."""
    waited, limit = 0.0, _GRACE_S + size / _LEAST_RATE
    while True:
        began = time.monotonic()
        piece = next(pieces, None)
        waited += time.monotonic() - began
        if piece is None:
            return
        if waited > limit:
            raise UnreachableError(f"{size} bytes did not come within {limit:.0f} s")
        yield piece


def _parallel(remote: Remote, parts: Sequence[Stretch], first: _Answer) -> Iterator[bytes]:
    """Read parts, a thread each, a few at once; in order."""
    waiting = iter(parts)
    running = deque([_Part(remote, next(waiting), first)])
    taken = 0
    try:
        while running:
            running += (
                _Part(remote, each) for each in islice(waiting, _PARTS_AHEAD - len(running))
            )
            for piece in running[0].pieces():
                taken += len(piece)
                yield piece
            running.popleft()
    except _WholeOnlyError:
        for each in running:
            each.stop()
        yield from _stream(remote, behind(parts, taken))
    finally:
        for each in running:
            each.stop()


def _stream(remote: Remote, parts: Sequence[Stretch]) -> Iterator[bytes]:
    """Read parts out of the whole file, whatever the server has said of ranges before."""
    span = span_of(parts)
    answer = _retried(lambda: _whole(remote))
    yield from cut(_resumed(remote, span, answer), [span], parts)


class _Part:
    """A part that is being read by a thread of its own; no more is kept than it has bytes.

    The thread is a daemon: at worst it waits for a silent server when nobody cares any more.
    """

    def __init__(self, remote: Remote, span: Stretch, answer: _Answer | None = None) -> None:
        self._pieces: queue.SimpleQueue[bytes | Exception | None] = queue.SimpleQueue()
        self._stopped = threading.Event()
        threading.Thread(target=self._read, args=(remote, span, answer), daemon=True).start()

    def _read(self, remote: Remote, span: Stretch, answer: _Answer | None) -> None:
        try:
            for piece in _resumed(remote, span, answer, ranges_only=True):
                if self._stopped.is_set():
                    return
                self._pieces.put(piece)
            self._pieces.put(None)
        except Exception as error:  # It is raised where the pieces are taken.
            self._pieces.put(error)

    def pieces(self) -> Iterator[bytes]:
        """Give its bytes as they come."""
        while (piece := self._pieces.get()) is not None:
            if isinstance(piece, Exception):
                raise piece
            yield piece

    def stop(self) -> None:
        """Read no further."""
        self._stopped.set()


def _resumed(
    remote: Remote, span: Stretch, answer: _Answer | None = None, *, ranges_only: bool = False
) -> Iterator[bytes]:
    """Read one part of a file, and go on where it breaks off."""
    at, mark, failures = span.start, span.start, 0
    while at < span.end:
        try:
            answer = answer or _open(remote, Stretch(at, span.end - at))
            if answer.is_whole and ranges_only:
                answer.response.close()
                raise _WholeOnlyError
            for piece in _from(answer, at, span.end):
                at += len(piece)
                yield piece
            if at < span.end:
                raise UnreachableError(f"{remote.name} broke off at byte {at}")
        except UnreachableError as error:
            failures = 1 if at - mark >= _PROGRESS_BYTES else failures + 1
            mark, answer = at, None
            _pause(failures, error)


def _retried(ask: Callable[[], _Answer]) -> _Answer:
    failures = 0
    while True:
        try:
            return ask()
        except UnreachableError as error:
            failures += 1
            _pause(failures, error)


def _pause(failures: int, error: AppbError) -> None:
    if failures > len(_PAUSES_S):
        raise error
    time.sleep(_PAUSES_S[failures - 1])


def _from(answer: _Answer, start: int, end: int) -> Iterator[bytes]:
    """Give the bytes of an answer between two offsets."""
    at = answer.start
    with answer.response as response:
        for piece in response.pieces():
            wanted = piece[max(0, start - at) : max(0, end - at)]
            at += len(piece)
            if wanted:
                yield wanted
            # What ends here is read to its end, or else its connection could not be used again.
            if at > end:
                return


def _open(remote: Remote, span: Stretch) -> _Answer:
    """Ask for a range; take the whole file if the server gives that, or something wrong."""
    if span.start == 0 and span.end == remote.size:
        return _whole(remote)
    response = remote.ask({"Range": f"bytes={span.start}-{span.end - 1}"})
    if response.status == OK:
        return _check_whole(remote, response)
    check_status(response, remote.name)
    if _is_range(response, span, remote.size):
        return _Answer(span.start, response, is_whole=False)
    response.close()
    return _whole(remote)


def _whole(remote: Remote) -> _Answer:
    response = remote.ask({})
    check_status(response, remote.name)
    if response.status != OK:
        response.close()
        raise CorruptError(f"{response.origin} gives a part of {remote.name} that nobody wants")
    return _check_whole(remote, response)


def _check_whole(remote: Remote, response: Response) -> _Answer:
    said = response.header("Content-Length")
    if said and said != str(remote.size):
        response.close()
        raise CorruptError(f"{remote.name} has {said[:20]} bytes instead of {remote.size}")
    return _Answer(0, response, is_whole=True)


def _is_range(response: Response, span: Stretch, size: int) -> bool:
    found = _CONTENT_RANGE.fullmatch(response.header("Content-Range"))
    if found is None:
        return False
    start, last, total = (int(each) if each else size for each in found.groups())
    return (start, last + 1, total) == (span.start, span.end, size)
