"""A web server on a free port of the loopback, whose answers a test writes byte for byte."""

import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

_HEAD_END = b"\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Request:
    """What a client has asked."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


Answers = Callable[[Request], bytes | Iterable[bytes]]


@dataclass(slots=True)
class Web:
    """A server and what it was asked.

    Args:
        host: As in its address.
        port: Where it listens.
        answers: Gives the bytes of an answer, head included; the connection ends behind them.
    """

    host: str
    port: int
    answers: Answers
    asked: list[Request] = field(default_factory=list)

    @property
    def url(self) -> str:
        """Its address, without a slash at the end."""
        return f"http://{self.host}:{self.port}"


def answer(body: bytes = b"", *, status: str = "200 OK", **headers: str) -> bytes:
    """An honest answer, if its headers are; `_` in their names stands for `-`."""
    fields = {"Content-Length": str(len(body))} | {
        name.replace("_", "-"): value for name, value in headers.items()
    }
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"HTTP/1.1 {status}\r\n{head}Connection: close\r\n\r\n".encode() + body


@contextmanager
def serving(answers: Answers, *, host: str = "127.0.0.1") -> Iterator[Web]:
    """Run a server; each connection has one request and a thread."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        web = Web(host, listener.getsockname()[1], answers)
        accepting = threading.Thread(target=_accept, args=(listener, web))
        accepting.start()
        try:
            yield web
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            accepting.join()


def _accept(listener: socket.socket, web: Web) -> None:
    with suppress(OSError):
        while True:
            connection, _ = listener.accept()
            threading.Thread(target=_serve, args=(connection, web), daemon=True).start()


def _serve(connection: socket.socket, web: Web) -> None:
    with connection, suppress(OSError):
        request = _read(connection)
        if request is None:
            return
        web.asked.append(request)
        given = web.answers(request)
        for piece in [given] if isinstance(given, bytes) else given:
            connection.sendall(piece)


def _read(connection: socket.socket) -> Request | None:
    got = b""
    while _HEAD_END not in got:
        piece = connection.recv(1 << 16)
        if not piece:
            return None
        got += piece
    head, _, body = got.partition(_HEAD_END)
    first, *lines = head.decode("latin-1").split("\r\n")
    method, path, _ = first.split(" ")
    headers = {k.lower(): v for k, _, v in (line.partition(": ") for line in lines)}
    while len(body) < int(headers.get("content-length", 0)):
        body += connection.recv(1 << 16)
    return Request(method, path, headers, body)
