"""A real web server on a free port of the loopback."""

import os
import select
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

# Debian has it where only root's PATH leads.
_NGINX = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
needs_nginx = pytest.mark.skipif(_NGINX is None, reason="nginx is not installed")

_CONFIGURATION = """
{user}
pid {directory}/pid;
error_log {directory}/error.log;
worker_processes 1;
events {{}}
http {{
  log_format short '$connection $status $body_bytes_sent $http_range';
  access_log {directory}/access.log short;
  {temporary}
  server {{
    listen 127.0.0.1:{port}{tls};
    root {folder};
    {server}
  }}
}}
"""


@dataclass(frozen=True, slots=True)
class Asked:
    """A request as the server saw it; `connection` is a number."""

    connection: int
    status: int
    sent_bytes: int
    range: str


@dataclass(slots=True)
class Nginx:
    """A server and, once it has ended, what it was asked."""

    port: int
    asked: list[Asked] = field(default_factory=list)

    @property
    def url(self) -> str:
        """Its address, without a slash at the end."""
        return f"http://127.0.0.1:{self.port}"


@contextmanager
def nginx(folder: Path, *, server: str = "", tls: bool = False) -> Iterator[Nginx]:
    """Serve a folder.

    Args:
        server: Further directives.
        tls: Whether to speak TLS; `server` then names the certificate.
    """
    assert _NGINX is not None
    with tempfile.TemporaryDirectory() as name, socket.create_server(("127.0.0.1", 0)) as free:
        directory, port = Path(name), free.getsockname()[1]
        free.close()
        kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        text = _CONFIGURATION.format(
            user="user root;" if os.geteuid() == 0 else "",
            directory=directory,
            temporary=" ".join(f"{each}_temp_path {directory}/{each};" for each in kinds),
            port=port,
            tls=" ssl" if tls else "",
            folder=folder,
            server=server,
        )
        (directory / "nginx.conf").write_text(text)
        # It listens, and its pid is written, before it goes into the background.
        command = [_NGINX, "-p", name, "-c", f"{name}/nginx.conf", "-e", f"{name}/error.log"]
        subprocess.run(command, check=True)
        pid = int((directory / "pid").read_text())
        process = os.pidfd_open(pid)
        served = Nginx(port)
        try:
            yield served
        finally:
            signal.pidfd_send_signal(process, signal.SIGQUIT)
            select.select([process], [], [], 30)
            os.close(process)
            served.asked += _read_log(directory / "access.log")


def _read_log(path: Path) -> Iterator[Asked]:
    for line in path.read_text().splitlines():
        connection, status, size, what = line.split(" ", 3)
        yield Asked(int(connection), int(status), int(size), what)
