"""Between a client and a server: connections that end after so many bytes of the client's."""

import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

_PIECE_BYTES = 1 << 14


@dataclass(slots=True)
class Cutting:
    """Passes connections on.

    Args:
        port: Where it listens.
        target: Where it connects to.
        breaks: After how many bytes each of the first connections ends.
    """

    port: int
    target: int
    breaks: list[int]
    sent_bytes: int = 0
    cuts: int = 0
    _counting: threading.Lock = field(default_factory=threading.Lock)

    def serve(self, client: socket.socket) -> None:
        """Pass one connection on, both ways."""
        with self._counting:
            left = self.breaks.pop(0) if self.breaks else None
        with client, socket.create_connection(("127.0.0.1", self.target)) as server:
            back = threading.Thread(target=_copy, args=(server, client), daemon=True)
            back.start()
            with suppress(OSError):
                while piece := client.recv(
                    _PIECE_BYTES if left is None else min(left, _PIECE_BYTES)
                ):
                    server.sendall(piece)
                    with self._counting:
                        self.sent_bytes += len(piece)
                    if left is not None:
                        left -= len(piece)
                        if not left:
                            self.cuts += 1
                            break
            for each in (server, client):
                with suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)
            back.join()


def _copy(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while piece := source.recv(_PIECE_BYTES):
            target.sendall(piece)
        target.shutdown(socket.SHUT_RDWR)


@contextmanager
def cutting(target: int, breaks: Sequence[int]) -> Iterator[Cutting]:
    """Run it on a free port of the loopback."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        between = Cutting(listener.getsockname()[1], target, list(breaks))
        accepting = threading.Thread(target=_accept, args=(listener, between))
        accepting.start()
        try:
            yield between
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            accepting.join()


def _accept(listener: socket.socket, between: Cutting) -> None:
    with suppress(OSError):
        while True:
            client, _ = listener.accept()
            threading.Thread(target=between.serve, args=(client,), daemon=True).start()
