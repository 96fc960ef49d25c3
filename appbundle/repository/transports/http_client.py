"""Single HTTP requests to servers that may be anything: what every transport over HTTP shares.

Nothing here resumes, retries or understands ranges; an answer is taken as it comes, within limits.
"""

import contextlib
import http.client
import io
import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Self

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import HTTPError
from urllib3.util import Timeout, Url, parse_url

from appbundle.errors import CorruptError, UnreachableError
from appbundle.names import escape
from appbundle.system import certificates

MAX_REDIRECTS = 5
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_SECURE, _PLAIN = "https", "http"
_DEFAULT_PORTS = {_SECURE: 443, _PLAIN: 80}
_CONNECT_S = 20.0
SILENCE_S = 30.0
"""So long nothing at all may come, by default."""
_HEAD_SILENCES = 2
"""So many times that long the head of an answer may take, however it drips."""
_PIECE_BYTES = 1 << 16
_MAX_CONNECTIONS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Scheme, host and port: what decides whether two addresses are the same server."""

    scheme: str
    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        port = "" if self.port == _DEFAULT_PORTS[self.scheme] else f":{self.port}"
        return f"{self.scheme}://{host}{port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Elsewhere:
    """Where a server may send us, apart from addresses of its own.

    Never from https to http, and never to what is no HTTP.

    Args:
        hosts: Names that the administrator has listed.
        public: Whether any host will do, over https: registries keep their blobs in stores whose
            names nobody knows beforehand. A server with a public address may lead to such only.
    """

    hosts: frozenset[str] = frozenset()
    public: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How slow a server may be.

    Args:
        least_rate: Bytes a second, on average over the time that is waited for the body.
        grace_s: Seconds before that counts.
        clock: Gives seconds.
    """

    least_rate: int = 1024
    grace_s: float = 30.0
    clock: Callable[[], float] = time.monotonic


class Response:
    """An answer whose body has not been read yet; closing it early gives its connection up."""

    def __init__(self, raw: urllib3.BaseHTTPResponse, origin: Origin, pace: Pace) -> None:
        self.status = raw.status
        # What is not known to be inside is taken to be outside.
        self.is_public = getattr(raw.connection, "is_public", True)
        self.origin = origin
        self._raw = raw
        self._pace = pace

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give the connection back if little is left to be read, else up."""
        left = self._raw.length_remaining
        if left is not None and left <= _PIECE_BYTES:
            with contextlib.suppress(UnreachableError):
                for _ in self.pieces():
                    pass
        self._raw.close()

    def header(self, name: str) -> str:
        """A header's value, those of repeated ones joined; empty if there is none."""
        return self._raw.headers.get(name, "")

    def pieces(self) -> Iterator[bytes]:
        """The body as it comes.

        Raises:
            UnreachableError: It breaks off, or comes too slowly.
        """
        waited_s, size = 0.0, 0
        try:
            while True:
                # Only waiting counts: whoever takes the pieces may be slow.
                began = self._pace.clock()
                piece = self._raw.read1(_PIECE_BYTES)
                waited_s += self._pace.clock() - began
                if not piece:
                    return
                size += len(piece)
                self._check_pace(size, waited_s)
                yield piece
        except (HTTPError, OSError, http.client.HTTPException) as e:
            raise UnreachableError(f"{self.origin} broke off: {_reason(e)}") from e

    def _check_pace(self, size: int, elapsed_s: float) -> None:
        if elapsed_s > self._pace.grace_s and size < elapsed_s * self._pace.least_rate:
            raise UnreachableError(
                f"{self.origin} sends only {size / elapsed_s:.0f} bytes a second"
            )

    def read(self, *, limit: int) -> bytes:
        """Read a small body whole.

        Raises:
            CorruptError: It has more than `limit` bytes.
            UnreachableError: As `pieces`.
        """
        body = bytearray()
        for piece in self.pieces():
            body += piece
            if len(body) > limit:
                raise CorruptError(f"{self.origin} sends more than {limit} bytes")
        return bytes(body)


@dataclass(slots=True)
class HttpClient:
    """Sends requests, and follows redirects as far as they are allowed; threads may share it.

    Args:
        elsewhere: Where redirects may lead.
        pace: How slow answers may be.
    """

    elsewhere: Elsewhere = field(default_factory=Elsewhere)
    pace: Pace = field(default_factory=Pace)
    _pools: dict[tuple[str, bool], urllib3.PoolManager] = field(default_factory=dict, init=False)
    _making: threading.Lock = field(default_factory=threading.Lock, init=False)

    def ask(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        silence_s: float = SILENCE_S,
    ) -> Response:
        """Send a request and give the answer, whatever its status, its body unread.

        A redirect is followed only if it is a GET's or HEAD's; to another server it goes without
        the header Authorization.

        Args:
            method: `GET`, `HEAD`, ….
            url: Absolute.
            headers: Beside those that every request has.
            body: What is sent, in small pieces, each of which has to go in time.
            silence_s: So long nothing may come.

        Raises:
            UnreachableError: There is no answer.
            CorruptError: The answer is compressed, or leads to where it may not.
        """
        start = origin(url)
        sent, public_only = dict(headers or {}), False
        for _ in range(MAX_REDIRECTS + 1):
            response = self._send(method, url, sent, body, start, public_only, silence_s)
            if response.status not in _REDIRECTS or method not in ("GET", "HEAD"):
                return response
            url, public_only = self._next(url, response, start), public_only or response.is_public
            if origin(url) != start:
                sent.pop("Authorization", None)
        raise CorruptError(f"{start} redirects more than {MAX_REDIRECTS} times")

    def ask_elsewhere(
        self,
        method: str,
        url: str,
        *,
        start: Origin,
        public_only: bool,
        headers: Mapping[str, str],
        body: bytes | None = None,
    ) -> Response:
        """Ask an address that a server has named in another way than by a redirect.

        The headers are sent as they are, and no redirect is followed.

        Args:
            method: As in `ask`.
            url: What it has named.
            start: The server.
            public_only: Whether its answer came from a public address.
            headers: As in `ask`.
            body: As in `ask`.

        Raises:
            UnreachableError: There is no answer.
            CorruptError: It is an address to which that server may not lead.
        """
        self.check(url, start=start)
        return self._send(method, url, headers, body, start, public_only, SILENCE_S)

    def check(self, url: str, *, start: Origin) -> None:
        """Refuse an address that a server named if it may not lead there.

        Raises:
            CorruptError: Its text says why.
        """
        if not url.isascii() or not url.isprintable() or " " in url:
            raise CorruptError(f"{start} leads to an address with forbidden characters")
        at = origin(url)
        if at == start or (at.host == start.host and at.scheme == _SECURE):
            return
        if at.scheme != _SECURE and start.scheme == _SECURE:
            problem = "without encryption"
        elif at.host not in self.elsewhere.hosts and not (
            self.elsewhere.public and at.scheme == _SECURE
        ):
            problem = "which is not listed"
        else:
            return
        raise CorruptError(
            f"{start} leads to {escape(str(at))}, {problem}",
            hint="if that is right, list the host in redirect_hosts of the repository's file",
        )

    def _next(self, url: str, response: Response, start: Origin) -> str:
        location = response.header("Location")
        response.close()
        if not location:
            raise CorruptError(f"{start} redirects to nowhere")
        target = join(url, location)
        self.check(target, start=start)
        return target

    def _send(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes | None,
        start: Origin,
        public_only: bool,
        silence_s: float,
    ) -> Response:
        at = origin(url)
        strange = at.host != start.host and at.host not in self.elsewhere.hosts
        sent = {"Accept-Encoding": "identity", **headers}
        if body is not None:
            sent["Content-Length"] = str(len(body))
        try:
            raw = self._pool(at.scheme, public_only=strange and public_only).urlopen(
                method,
                url,
                # All of a file goes piece by piece; all of `bytes` would have to go in one time.
                body=None if body is None else io.BytesIO(body),
                headers=sent,
                redirect=False,
                retries=False,
                preload_content=False,
                decode_content=False,
                timeout=Timeout(connect=_CONNECT_S, read=silence_s),
            )
        except (HTTPError, OSError, http.client.HTTPException, ValueError) as e:
            raise UnreachableError(f"cannot reach {at}: {_reason(e)}") from e
        if raw.headers.get("Content-Encoding", "identity").lower() not in ("", "identity"):
            raw.close()
            raise CorruptError(f"{at} compresses what was asked for as it is")
        return Response(raw, at, self.pace)

    def _pool(self, scheme: str, *, public_only: bool) -> urllib3.PoolManager:
        with self._making:
            pool = self._pools.get((scheme, public_only))
            if pool is None:
                pool = _new_pool(scheme, public_only=public_only)
                self._pools[scheme, public_only] = pool
            return pool


def origin(url: str) -> Origin:
    """Take an address of a server apart.

    Raises:
        CorruptError: It is not http or https, or names a user.
    """
    parsed = _parse(url)
    if parsed.scheme not in _DEFAULT_PORTS or not parsed.host or parsed.auth is not None:
        raise CorruptError(f"{escape(url)} is no plain address of a web server")
    return Origin(
        scheme=parsed.scheme,
        host=parsed.host.strip("[]").rstrip("."),
        port=parsed.port or _DEFAULT_PORTS[parsed.scheme],
    )


def join(url: str, location: str) -> str:
    """Make the address absolute that a server gave in an answer to `url`."""
    if location.startswith("/") and not location.startswith("//"):
        return f"{origin(url)}{location}"
    return location


def _parse(url: str) -> Url:
    try:
        return parse_url(url)
    except HTTPError as e:
        raise CorruptError(f"{escape(url)} is no address") from e


class _Bounded(HTTPConnection):
    """A connection whose answers' heads arrive in time, and which is made only where it may be."""

    public_only = False
    is_public = True

    def _new_conn(self) -> socket.socket:
        connected = super()._new_conn()
        # What is connected to is looked at, not what a name resolved to a moment ago.
        peer = connected.getpeername()
        self.is_public = _is_public(peer)
        if self.public_only and not self.is_public:
            connected.close()
            raise OSError(f"{peer[0]} is not a public address")
        return connected

    def getresponse(self) -> urllib3.HTTPResponse:  # type: ignore[override]
        late = threading.Event()
        assert isinstance(self.timeout, float)
        patience_s = self.timeout * _HEAD_SILENCES
        watch = threading.Timer(patience_s, _give_up, (self.sock, late))
        watch.daemon = True
        watch.start()
        try:
            response = super().getresponse()
        except (OSError, http.client.HTTPException):
            if not late.is_set():
                raise
        finally:
            watch.cancel()
        # The end of a stream is as good as an empty line to the parser of heads.
        if late.is_set():
            raise TimeoutError(f"no answer's head within {patience_s:g} s")
        return response


def _is_public(peer: tuple[str, int]) -> bool:
    return ipaddress.ip_address(peer[0].partition("%")[0]).is_global


def _give_up(sock: socket.socket | None, late: threading.Event) -> None:
    late.set()
    if sock is not None:
        # Not the method of a TLS socket, which would take its state from under the reader.
        with contextlib.suppress(OSError):
            socket.socket.shutdown(sock, socket.SHUT_RDWR)


class _BoundedSecure(_Bounded, HTTPSConnection):
    pass


class _Public(_Bounded):
    public_only = True


class _PublicSecure(_BoundedSecure):
    public_only = True


class _Pool(urllib3.HTTPConnectionPool):
    ConnectionCls = _Bounded


class _SecurePool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _BoundedSecure


class _PublicPool(urllib3.HTTPConnectionPool):
    ConnectionCls = _Public


class _PublicSecurePool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _PublicSecure


def _new_pool(scheme: str, *, public_only: bool) -> urllib3.PoolManager:
    # Reading all certificates takes a while; who speaks no TLS does not wait for it.
    is_secure = scheme == _SECURE
    context = ssl.create_default_context(cafile=certificates.find()) if is_secure else None
    manager = urllib3.PoolManager(maxsize=_MAX_CONNECTIONS, ssl_context=context)
    manager.pool_classes_by_scheme = (
        {_PLAIN: _PublicPool, _SECURE: _PublicSecurePool}
        if public_only
        else {_PLAIN: _Pool, _SECURE: _SecurePool}
    )
    return manager


def _reason(error: Exception) -> str:
    """Why, in few words: what urllib3 wraps says more than its wrapping."""
    inner = error
    while inner.__context__ is not None and isinstance(inner, HTTPError):
        if not isinstance(inner.__context__, OSError | HTTPError | http.client.HTTPException):
            break
        inner = inner.__context__
    return escape(getattr(inner, "strerror", None) or str(inner) or type(inner).__name__)
