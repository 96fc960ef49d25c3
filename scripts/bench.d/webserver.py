"""The bench's own service: a web server in Python, as a tree, a bundle and a plain unit."""

import contextlib
import random
import shutil
import socket
import tempfile
from collections.abc import Sequence
from pathlib import Path

import product
import programs
from peers import Release

from appbundle.bundle.services import Health, Service, Socket
from bundles import Content

NAME = "web"
ARGV = (programs.PYTHON, "-I", "/srv/web/serve.py")
"""How it is started in its tree."""

_PORTS = (10_000, 30_000)
_HERE = Path(__file__).parent


def service(name: str, port: int) -> Service:
    """It as an app's service on a socket, asked over HTTP for its health."""
    return Service(
        name=name,
        argv=ARGV,
        sockets=(Socket(name="http", listen=f"127.0.0.1:{port}"),),
        health=Health(http=f"http://127.0.0.1:{port}/", grace_s=5),
    )


def put(directory: Path, version: str) -> Path:
    """Write the program with its version into a directory, and give the program."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "version").write_text(f"{version}\n")
    return Path(shutil.copy(_HERE / "serve.py", directory))


def unit(program: Path, port: int) -> str:
    """It as a unit that somebody writes in a minute: no socket, no confinement."""
    return (
        "[Unit]\nStartLimitIntervalSec=0\n"
        f"[Service]\nType=exec\nExecStart={programs.PYTHON} -I {program}\n"
        f"Environment=PORT={port}\n[Install]\nWantedBy=multi-user.target\n"
    )


def releases(workdir: Path, port: int) -> tuple[Release, Release]:
    """Two releases that differ in what they answer, each with its whole tree."""
    old, new = (
        product.release_of_tree(
            make_tree(workdir / f"tree-{version}", version),
            workdir,
            name=NAME,
            version=version,
            services=(service(NAME, port),),
        )
        for version in ("1.0", "2.0")
    )
    return old, new


def make_tree(tree: Path, version: str, name: str = NAME) -> Path:
    """Write a whole tree: server, Python, libraries, mount points."""
    shutil.rmtree(tree, ignore_errors=True)
    program = put(tree / "srv/web", version)
    with tempfile.TemporaryDirectory(dir=tree.parent) as scratch:
        contents = programs.with_python(program, Path(scratch)) | programs.mount_points(name)
        for path, content in contents.items():
            _write(tree / path, content)
    return tree


def _write(target: Path, content: Content) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, Path):
        shutil.copy(content, target)
    elif isinstance(content, bytes):
        target.write_bytes(content)
    else:
        target.symlink_to(content)


def free_port() -> int:
    """A port of the loopback interface that nobody listens at."""
    return free_ports(1)[0]


def free_ports(count: int) -> Sequence[int]:
    """So many ports in a row.

    None of those that the kernel gives to clients: one that asks while nobody listens could be
    given the very port that it asks, and talk to itself.
    """
    while True:
        first = random.randrange(*_PORTS)
        ports = range(first, first + count)
        with contextlib.ExitStack() as trial, contextlib.suppress(OSError):
            for port in ports:
                trial.enter_context(socket.create_server(("127.0.0.1", port)))
            return ports
