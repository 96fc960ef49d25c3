"""A web server as one writes it in Python; what the bench keeps running as a service.

It answers with the content of `version`, which lies beside it. It listens on descriptor 3 if
LISTEN_FDS says so (sd_listen_fds(3)), else at 127.0.0.1:PORT. After SIGTERM it accepts no more,
answers on the connections that it has with `Connection: close`, and ends once they are gone. With
BROKEN in its environment it answers 500.
"""

import os
import signal
import socket
import threading
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import BaseServer, ThreadingTCPServer

_ENDING = threading.Event()
_BODY = Path(__file__).with_name("version").read_bytes()
_STATUS = 500 if "BROKEN" in os.environ else 200


class Answer(BaseHTTPRequestHandler):
    """One connection; one that says nothing for a second is closed."""

    protocol_version = "HTTP/1.1"
    timeout = 1.0
    wbufsize = -1
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        """Answer the same, whatever is asked."""
        self.send_response(_STATUS)
        self.send_header("Content-Length", str(len(_BODY)))
        if _ENDING.is_set():
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(_BODY)

    def log_message(self, *_: object) -> None:
        """Say nothing: the bench asks hundreds of times a second."""


class Server(ThreadingTCPServer):
    """A thread a connection; its end waits for them."""

    def __init__(self, listening: socket.socket) -> None:
        # Not ThreadingTCPServer's own: it opens a socket, which a confined service may not.
        BaseServer.__init__(self, listening.getsockname(), Answer)
        self.socket = listening
        # Another instance at the same socket may be quicker.
        listening.setblocking(False)


def _listening() -> socket.socket:
    if os.environ.get("LISTEN_FDS"):
        return socket.socket(fileno=3)
    return socket.create_server(("127.0.0.1", int(os.environ["PORT"])), backlog=511)


def _end(server: Server) -> None:
    _ENDING.set()
    threading.Thread(target=server.shutdown).start()


if __name__ == "__main__":
    with Server(_listening()) as serving:
        signal.signal(signal.SIGTERM, lambda *_: _end(serving))
        serving.serve_forever(poll_interval=0.05)
