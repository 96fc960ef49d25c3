"""A web server on loopback, and how many bytes went through it."""

import contextlib
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from measure import SEARCH_PATH, ChildFailed
from webserver import free_port

_START_LIMIT_S = 10.0

_CONFIGURATION = """
daemon off;
user root;
worker_processes 1;
pid {scratch}/pid;
error_log {scratch}/error.log;
events {{ worker_connections 256; }}
http {{
    log_format bytes '$bytes_sent $request_length';
    access_log {scratch}/bytes.log bytes;
    client_body_temp_path {scratch}/body;
    proxy_temp_path {scratch}/proxy;
    fastcgi_temp_path {scratch}/fastcgi;
    uwsgi_temp_path {scratch}/uwsgi;
    scgi_temp_path {scratch}/scgi;
    server {{
        listen 127.0.0.1:{port};
        location / {{ root {directory}; }}
        location /v2/ {{
            proxy_pass http://127.0.0.1:{registry};
            proxy_set_header Host $http_host;
        }}
    }}
}}
"""


@dataclass(slots=True)
class Server:
    """nginx with a folder, and a registry behind it.

    Args:
        url: Where.
        port: The same.
        fetched_bytes: What clients were sent and have sent, headers included; known at the end.
        requests: How many; likewise.
    """

    url: str
    port: int
    fetched_bytes: int = 0
    requests: int = 0


@contextlib.contextmanager
def serving(
    directory: Path,
    scratch: Path,
    *,
    within: Sequence[str] = (),
    registry: int = 9,
    port: int | None = None,
) -> Iterator[Server]:
    """Serve a folder; the numbers of bytes and requests are there when the block is left.

    Args:
        scratch: For the server's own files; made.
        within: What the server's command line begins with: `nsenter --net=…`.
        registry: The port of a registry that is served as well.
        port: Where; any by default.
    """
    scratch.mkdir(parents=True, exist_ok=True)
    port, log = port or free_port(), scratch / "bytes.log"
    log.unlink(missing_ok=True)
    configuration = scratch / "nginx.conf"
    configuration.write_text(
        _CONFIGURATION.format(scratch=scratch, directory=directory, port=port, registry=registry)
    )
    server = Server(f"http://127.0.0.1:{port}", port)
    child = subprocess.Popen(
        [*within, "nginx", "-c", configuration, "-p", scratch, "-e", scratch / "error.log"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={"PATH": SEARCH_PATH, "LANG": "C.UTF-8"},
    )
    try:
        _wait_for(scratch / "pid", child)
        yield server
    finally:
        # Requests under way end, so that their bytes are in the log.
        child.send_signal(signal.SIGQUIT)
        try:
            child.wait(_START_LIMIT_S)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
    lines = [tuple(map(int, line.split())) for line in log.read_text().splitlines()]
    server.fetched_bytes = sum(sent + received for sent, received in lines)
    server.requests = len(lines)


@contextlib.contextmanager
def registry(directory: Path, scratch: Path) -> Iterator[int]:
    """Run docker-registry over a folder; gives its port."""
    scratch.mkdir(parents=True, exist_ok=True)
    port = free_port()
    configuration = scratch / "registry.yml"
    configuration.write_text(
        "version: 0.1\nlog: {level: error}\n"
        f"storage: {{filesystem: {{rootdirectory: {directory}}}}}\n"
        f"http: {{addr: '127.0.0.1:{port}'}}\n"
    )
    child = subprocess.Popen(
        ["docker-registry", "serve", configuration],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={"PATH": SEARCH_PATH, "LANG": "C.UTF-8"},
    )
    try:
        _wait_for_port(port, child)
        yield port
    finally:
        child.terminate()
        child.wait()


def _wait_for(path: Path, child: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + _START_LIMIT_S
    while not (path.exists() and path.read_text().strip()):
        _still(child, deadline)


def _wait_for_port(port: int, child: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + _START_LIMIT_S
    while True:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        _still(child, deadline)


def _still(child: "subprocess.Popen[bytes]", deadline: float) -> None:
    if child.poll() is not None or time.monotonic() > deadline:
        raise ChildFailed("a server did not start")
    time.sleep(0.02)
