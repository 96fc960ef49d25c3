"""Files on web servers that lie, break off, are slow or know no ranges."""

import random
import re
import threading
from collections.abc import Callable, Iterator, Sequence

import pytest

from appbundle.errors import CorruptError, NotFoundError, UnreachableError
from appbundle.repository.open import open_transport
from appbundle.repository.transports import ranges
from appbundle.repository.transports.transport import Stretch
from tests.repository.web import Answers, Request, answer, serving

CONTENT = random.Random(1).randbytes(300_000)
WANTED = (Stretch(10, 90_000), Stretch(90_100, 50), Stretch(120_000, 60_000), Stretch(299_990, 10))
EXPECTED = b"".join(CONTENT[each.start : each.end] for each in WANTED)
PATH = "targets/hello/hello+1.bundle"


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small parts, and no pauses."""
    monkeypatch.setattr(ranges, "_PART_BYTES", 40_000)
    monkeypatch.setattr(ranges, "_PROGRESS_BYTES", 1_000)
    monkeypatch.setattr(ranges, "_PAUSES_S", (0.0, 0.0))


def asked_range(request: Request) -> range | None:
    """The offsets that are asked for, or None for all."""
    found = re.fullmatch(r"bytes=(\d+)-(\d+)", request.headers.get("range", ""))
    return range(int(found[1]), int(found[2]) + 1) if found else None


def honest(request: Request, content: bytes = CONTENT) -> bytes:
    """What a good server answers."""
    asked = asked_range(request)
    return answer(content) if asked is None else partial(asked, content)


def partial(place: range, content: bytes = CONTENT, *, said: range | None = None) -> bytes:
    """A part of the file, perhaps with another place in its head."""
    said = said or place
    where = f"bytes {said.start}-{said.stop - 1}/{len(content)}"
    body = content[place.start : place.stop]
    return answer(body, status="206 Partial Content", Content_Range=where)


def read(url: str, stretches: Sequence[Stretch] = WANTED) -> bytes:
    """Read parts of the file."""
    pieces = open_transport(url).read_stretches(PATH, file_size=len(CONTENT), stretches=stretches)
    return b"".join(pieces)


def test_only_what_is_wanted_is_asked_for() -> None:
    """Ranges are single, do not overlap, and cover no more than what is wanted and small gaps."""
    with serving(honest) as web:
        assert read(web.url) == EXPECTED
    asked = [each for each in map(asked_range, web.asked) if each]
    assert len(asked) == len(web.asked) == 6
    assert sum(map(len, asked)) == len(EXPECTED) + 90
    assert all(r.path == "/targets/hello/hello%2B1.bundle" for r in web.asked)


def whole(request: Request) -> bytes:
    """A server without ranges."""
    return answer(CONTENT)


def other_place(request: Request) -> bytes:
    """A server that says where the bytes are from, which is not where they were asked for."""
    asked = asked_range(request)
    return partial(range(asked.start + 1, asked.stop + 1)) if asked else answer(CONTENT)


def unsaid_place(request: Request) -> bytes:
    """A server that does not say where the bytes are from."""
    body = CONTENT[:100]
    return answer(body, status="206 Partial Content") if asked_range(request) else answer(CONTENT)


def several_parts(request: Request) -> bytes:
    """A server that answers in several parts."""
    if asked_range(request) is None:
        return answer(CONTENT)
    kind = "multipart/byteranges; boundary=x"
    return answer(b"--x\r\n", status="206 Partial Content", Content_Type=kind)


@pytest.mark.parametrize("answers", [whole, other_place, unsaid_place, several_parts])
def test_server_without_usable_ranges_is_asked_for_the_whole_file_once(answers: Answers) -> None:
    """A 200 is used as a full stream, and so is what a wrong range is replaced by: attack 47."""
    with serving(answers) as web:
        assert read(web.url) == EXPECTED
    assert len(web.asked) <= 2


def test_server_that_forgets_ranges_is_read_as_a_stream() -> None:
    """Ranges at first and whole files later: each byte is still taken once, from its place."""
    seen = threading.Semaphore(2)
    with serving(lambda r: honest(r) if seen.acquire(blocking=False) else answer(CONTENT)) as web:
        assert read(web.url) == EXPECTED


def test_bytes_behind_a_range_are_not_taken() -> None:
    """A body that is longer than its head says it is, is cut."""

    def longer(request: Request) -> bytes:
        asked = asked_range(request)
        assert asked is not None
        sent = partial(range(asked.start, asked.stop + 500), said=asked)
        return sent.replace(b"Content-Length", b"X-Length")

    with serving(longer) as web:
        assert read(web.url) == EXPECTED


def breaking(after: int) -> Callable[[Request], bytes]:
    """A server that sends no more than so many bytes of anything."""

    def answers(request: Request) -> bytes:
        head, _, body = honest(request).partition(b"\r\n\r\n")
        return head + b"\r\n\r\n" + body[:after]

    return answers


def test_what_breaks_off_goes_on_where_it_broke() -> None:
    """No byte is asked for twice."""
    with serving(breaking(7_000)) as web:
        assert read(web.url) == EXPECTED
    starts = [each.start for each in map(asked_range, web.asked) if each]
    assert len(starts) == len(set(starts)) > 20


def test_stream_that_breaks_off_goes_on_behind_what_was_taken() -> None:
    """Without ranges the stream begins anew, but each byte is given once."""
    left = iter([100_000, 200_000, 300_000])

    def answers(request: Request) -> bytes:
        head, _, body = answer(CONTENT).partition(b"\r\n\r\n")
        return head + b"\r\n\r\n" + body[: next(left)]

    with serving(answers) as web:
        assert read(web.url) == EXPECTED
    assert len(web.asked) == 3


@pytest.mark.parametrize("after", [0, 10])
def test_what_breaks_off_for_good_is_given_up(after: int) -> None:
    """A server that brings nearly nothing each time is not asked for ever."""
    with serving(breaking(after)) as web, pytest.raises(UnreachableError):
        read(web.url)
    assert len(web.asked) < 20


@pytest.mark.parametrize("size", [0, 299_999, 300_001])
def test_file_of_another_length_is_refused(size: int) -> None:
    """A whole file that is not as long as the metadata say is not read."""
    with serving(lambda _: answer(bytes(size))) as web, pytest.raises(CorruptError):
        read(web.url)
    assert len(web.asked) == 1


@pytest.mark.parametrize(
    ("status", "error"),
    [
        ("404 Not Found", NotFoundError),
        ("403 Forbidden", NotFoundError),
        ("401 Unauthorized", UnreachableError),
        ("416 Range Not Satisfiable", UnreachableError),
        ("500 Internal Server Error", UnreachableError),
    ],
)
def test_answer_without_the_file_is_an_error(status: str, error: type[Exception]) -> None:
    """A page that says why there is no file is never taken for one."""
    with serving(lambda _: answer(CONTENT, status=status)) as web:
        with pytest.raises(error):
            read(web.url)
        with pytest.raises(error):
            open_transport(web.url).read("metadata/timestamp.json", limit=10**6)


def test_server_that_is_too_busy_is_asked_again() -> None:
    """A passing failure passes."""
    statuses = iter(["503 Service Unavailable", "429 Too Many Requests"])

    def answers(request: Request) -> bytes:
        status = next(statuses, "")
        return answer(status=status) if status else honest(request)

    with serving(answers) as web:
        assert read(web.url) == EXPECTED


def test_dripping_is_given_up_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """What comes for ever, a little at a time, is too slow at some point: attack 48."""
    monkeypatch.setattr(ranges, "_GRACE_S", 0.0)
    monkeypatch.setattr(ranges, "_LEAST_RATE", 10**9)
    end = threading.Event()

    def drip(request: Request) -> Iterator[bytes]:
        head, _, body = honest(request).partition(b"\r\n\r\n")
        yield head + b"\r\n\r\n"
        for byte in body:
            yield bytes([byte])
            if end.wait(0.001):
                return

    with serving(drip) as web:
        with pytest.raises(UnreachableError, match="did not come within"):
            read(web.url)
        end.set()


def test_who_stops_taking_stops_the_server() -> None:
    """Not much is read ahead for a reader that takes no more."""
    with serving(honest) as web:
        pieces = open_transport(web.url).read_stretches(
            PATH, file_size=len(CONTENT), stretches=[Stretch(1, len(CONTENT) - 1)]
        )
        assert CONTENT[1:].startswith(next(pieces))
        del pieces
    assert len(web.asked) <= 4
