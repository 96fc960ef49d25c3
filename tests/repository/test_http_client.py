"""Single requests, to servers that send us elsewhere, are slow, break off or lie."""

import itertools
import threading
from collections.abc import Iterator

import pytest

from appbundle.errors import CorruptError, UnreachableError
from appbundle.repository.transports import http_client
from appbundle.repository.transports.http_client import Elsewhere, HttpClient, Pace, origin
from tests.repository.web import Request, answer, serving

SECRET = {"Authorization": "Basic c2VjcmV0"}
LOCALHOST = Elsewhere(hosts=frozenset({"localhost"}))


def test_identity_is_asked_for_and_nothing_else_is_taken() -> None:
    """A compressed answer is refused before any of it is read: attack 49."""
    with serving(lambda _: answer(b"\x1f\x8b", Content_Encoding="gzip")) as web:
        with pytest.raises(CorruptError, match="compresses"):
            HttpClient().ask("GET", web.url + "/a")
        assert web.asked[0].headers["accept-encoding"] == "identity"


def test_redirect_on_the_same_server_keeps_the_authorization() -> None:
    """An address without a host is the same server's."""

    def answers(request: Request) -> bytes:
        if request.path == "/a":
            return answer(status="307 Moved", Location="/b")
        return answer(b"here")

    with serving(answers) as web, HttpClient().ask("GET", web.url + "/a", headers=SECRET) as got:
        assert got.read(limit=4) == b"here"
        assert [r.headers.get("authorization") for r in web.asked] == [SECRET["Authorization"]] * 2


def test_redirect_to_a_listed_host_loses_the_authorization() -> None:
    """What is for one server is not shown to another."""
    with serving(lambda _: answer(b"there"), host="localhost") as other:
        moved = answer(status="302 Found", Location=other.url + "/b")
        with serving(lambda _: moved) as web:
            client = HttpClient(elsewhere=LOCALHOST)
            with client.ask("GET", web.url + "/a", headers=SECRET) as got:
                assert got.read(limit=5) == b"there"
        assert "authorization" not in other.asked[0].headers


@pytest.mark.parametrize(
    "location",
    [
        "file:///etc/shadow",
        "http://localhost:1/",
        "http://127.0.0.1:1/",
        "//localhost/b",
        "https://user@localhost/",
        "ftp://127.0.0.1/",
        "/b\x0bc",
        "/a b",
        "",
    ],
)
@pytest.mark.parametrize("public", [True, False])
def test_redirect_to_elsewhere_is_refused(location: str, *, public: bool) -> None:
    """Nothing is asked there: attacks 44 and 45."""
    moved = answer(status="302 Found", Location=location)
    with serving(lambda _: moved) as web, pytest.raises(CorruptError):
        HttpClient(elsewhere=Elsewhere(public=public)).ask("GET", web.url + "/a")
    assert len(web.asked) == 1


def test_nobody_outside_leads_inside(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name may resolve to an address inside, so what is connected to is looked at."""
    with serving(lambda _: answer(), host="localhost") as inside:
        moved = answer(status="302 Found", Location=f"https://localhost:{inside.port}/")
        with serving(lambda _: moved) as web:
            monkeypatch.setattr(http_client, "_is_public", lambda peer: peer[1] == web.port)
            with pytest.raises(UnreachableError, match="not a public address"):
                HttpClient(elsewhere=Elsewhere(public=True)).ask("GET", web.url + "/a")
    assert inside.asked == []


def test_redirects_end() -> None:
    """A server that sends in circles is left."""
    with serving(lambda _: answer(status="302 Found", Location="/a")) as web:
        with pytest.raises(CorruptError, match="redirects more than"):
            HttpClient().ask("GET", web.url + "/a")


@pytest.mark.parametrize(
    "sent",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n6\r\nhalf",
    ],
)
def test_body_that_ends_early_is_an_error(sent: bytes) -> None:
    """Never the shorter body."""
    with serving(lambda _: sent) as web, HttpClient().ask("GET", web.url + "/a") as got:
        with pytest.raises(UnreachableError, match="broke off"):
            got.read(limit=10)


@pytest.mark.parametrize("sent", [b"", b"HTTP/1.1 2", b"nonsense\r\n\r\n"])
def test_head_that_makes_no_sense_is_an_error(sent: bytes) -> None:
    """Also if there is none."""
    with serving(lambda _: sent) as web, pytest.raises(UnreachableError, match="cannot reach"):
        HttpClient().ask("GET", web.url + "/a")


def test_nobody_listens() -> None:
    """The reason is the system's, in few words."""
    with serving(lambda _: b"") as web:
        pass
    with pytest.raises(UnreachableError, match="Connection refused"):
        HttpClient().ask("GET", web.url + "/a")


def test_body_longer_than_allowed_is_refused() -> None:
    """Before it is all in memory."""
    with serving(lambda _: answer(b"12345")) as web, HttpClient().ask("GET", web.url) as got:
        with pytest.raises(CorruptError, match="more than 4 bytes"):
            got.read(limit=4)


def dripping(head: bytes, end: threading.Event) -> Iterator[bytes]:
    """A byte now and then, for as long as the test lasts."""
    yield head
    while not end.wait(0.01):
        yield b"x"


def test_body_that_drips_is_left() -> None:
    """A byte every ten seconds is no reason to wait for ever: attack 48."""
    end = threading.Event()
    seconds = itertools.count(step=10)
    client = HttpClient(pace=Pace(clock=lambda: float(next(seconds))))
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n"
    with serving(lambda _: dripping(head, end)) as web, client.ask("GET", web.url) as got:
        with pytest.raises(UnreachableError, match="bytes a second"):
            got.read(limit=1_000_000)
        end.set()


def test_head_that_drips_is_left() -> None:
    """A head has to be there in time, however lively it is."""
    end = threading.Event()
    with serving(lambda _: dripping(b"HTTP/1.1 200 OK\r\nX: ", end)) as web:
        with pytest.raises(UnreachableError, match="no answer's head"):
            HttpClient().ask("GET", web.url, silence_s=0.1)
        end.set()


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://a.example/x", "https://a.example"),
        ("https://A.example:443/", "https://a.example"),
        ("http://[::1]:80/", "http://[::1]"),
        ("http://a.example:443", "http://a.example:443"),
    ],
)
def test_origins_are_compared_in_one_form(url: str, expected: str) -> None:
    """The same server is the same origin however its address is written."""
    assert str(origin(url)) == expected
