"""Other means to replace a server by its next version, each as its documentation has it."""

import contextlib
import signal
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import msgspec
import nodes
import signing
import webserver
from disk import fresh_disk
from load import await_answers
from measure import Command, command, run
from nodes import Node
from peers import Release, is_installed

from bundles import declare, read_manifest

_UNIT = "etc/systemd/system/web.service"
_STOP_S = 20.0
LIMITS = ("--ulimit=nofile=4096:4096", "--ulimit=nproc=4096:4096")
"""For podman, whose own are higher than what some machines let anybody have."""
_By = TypeVar("_By")


@dataclass(frozen=True, slots=True)
class Served:
    """A server that runs.

    Args:
        node: Where its clients are.
        url: That they ask.
        steps: What replaces it, each once; at the end it is as it was.
    """

    node: Node
    url: str
    steps: Sequence[Callable[[], None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """One means.

    Args:
        name: As shown.
        why_not: Why it is not measured beside nodes with these keepers; nothing if it is.
        serve: From work directory, old and new release to the server.
    """

    name: str
    why_not: Callable[[Sequence[str]], str]
    serve: Callable[[Path, Release, Release], AbstractContextManager[Served]]


@contextlib.contextmanager
def _serve_unit(workdir: Path, old: Release, new: Release) -> Iterator[Served]:
    """A plain unit; between two restarts the version changes."""
    port = webserver.free_port()
    with nodes.node(workdir, nodes.SYSTEMD) as node:
        program = webserver.put(node.root / "srv/web", old.version)
        (node.root / _UNIT).write_text(
            webserver.unit(Path("/") / program.relative_to(node.root), port)
        )
        node.run("systemctl", "daemon-reload")
        node.run("systemctl", "start", "web.service")

        def replace(release: Release) -> None:
            webserver.put(node.root / "srv/web", release.version)
            node.run("systemctl", "restart", "web.service")

        yield _served(node, port, replace, (new, old))


@contextlib.contextmanager
def _serve_embedded(workdir: Path, old: Release, _: Release) -> Iterator[Served]:
    """A service without a socket that is held for it."""
    port = webserver.free_port()
    bundle = workdir / "plain.bundle"
    (service,) = read_manifest(old.bundle).services
    plain = msgspec.structs.replace(
        service, sockets=(), health=None, environment={"PORT": str(port)}, entitlements=("listen",)
    )
    declare(old.bundle, bundle, sign=signing.signer(workdir), services=[plain])
    with nodes.node(workdir, nodes.EMBEDDED) as node:
        node.run_appb("install", bundle)
        yield _served(node, port, lambda name: node.run_appb("restart", name), (webserver.NAME,))


@contextlib.contextmanager
def _serve_podman(workdir: Path, old: Release, new: Release) -> Iterator[Served]:
    """A container of an image that was made of the release's tree."""
    port = webserver.free_port()
    with fresh_disk(workdir) as disk:
        for release in (old, new):
            run([command("tar", "-C", release.tree, "-cf", disk / "tree.tar", "."),
                 podman(disk, "import", "-q", disk / "tree.tar", _image(release))])  # fmt: skip

        def start(release: Release) -> None:
            run([start_container(disk, webserver.NAME, _image(release), port)])

        def stop() -> None:
            run([podman(disk, "stop", webserver.NAME), podman(disk, "rm", webserver.NAME)])

        def replace(release: Release) -> None:
            stop()
            start(release)

        start(old)
        try:
            yield _served(nodes.here(), port, replace, (new, old))
        finally:
            stop()


def _image(release: Release) -> str:
    return f"localhost/web:{release.version}"


def podman(disk: Path, *words: str | Path) -> Command:
    """podman with its storage on a disk."""
    places = (f"--root={disk}/containers", f"--runroot={disk}/run", "--cgroup-manager=cgroupfs")
    # crun, its default, runs nothing where control groups are hybrid.
    runtime = ("--runtime=runc",) if is_installed("runc") else ()
    return command("podman", *runtime, *places, *words)


def start_container(disk: Path, name: str, image: str, port: int) -> Command:
    """The command that starts the server in a container."""
    options = ("--network=host", *LIMITS, image)
    words = ("run", "--detach", f"--name={name}", f"--env=PORT={port}", *options)
    return podman(disk, *words, *webserver.ARGV)


@contextlib.contextmanager
def _serve_nspawn(_: Path, old: Release, new: Release) -> Iterator[Served]:
    """A container of the release's tree, in which the server is process 1."""
    port = webserver.free_port()
    running = _nspawn(old, port)

    def replace(release: Release) -> None:
        nonlocal running
        _end(running)
        running = _nspawn(release, port)

    try:
        yield _served(nodes.here(), port, replace, (new, old))
    finally:
        _end(running)


def _nspawn(release: Release, port: int) -> subprocess.Popen[bytes]:
    """Start it, and give back once it answers: nobody else says when it is started."""
    options = ("--quiet", "--register=no", "--keep-unit", "--read-only", "--kill-signal=SIGTERM")
    words = ("systemd-nspawn", *options, f"--setenv=PORT={port}", "--console=pipe")
    process = subprocess.Popen(
        [*words, f"--directory={release.tree}", "--", *webserver.ARGV],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        await_answers(nodes.here(), _url(port))
    except BaseException:
        _end(process)
        raise
    return process


def _end(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(timeout=_STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _served(node: Node, port: int, replace: Callable[[_By], object], by: Sequence[_By]) -> Served:
    return Served(node, _url(port), [partial(replace, each) for each in by])


def _url(port: int) -> str:
    return f"http://127.0.0.1:{port}/"


def _why_not_installed(program: str) -> str:
    return "" if is_installed(program) else f"{program} is not installed"


WAYS = (
    Way(
        name="systemctl restart",
        why_not=lambda keepers: "" if nodes.SYSTEMD in keepers else "there is no systemd",
        serve=_serve_unit,
    ),
    Way(
        name="appb restart, without a socket",
        why_not=lambda keepers: "there is systemctl restart" if nodes.SYSTEMD in keepers else "",
        serve=_serve_embedded,
    ),
    Way(
        name="podman stop, rm, run",
        why_not=lambda _: _why_not_installed("podman"),
        serve=_serve_podman,
    ),
    Way(
        name="systemd-nspawn, ended and started",
        why_not=lambda _: _why_not_installed("systemd-nspawn"),
        serve=_serve_nspawn,
    ),
)
