"""The holder of sockets, as a process: whom it answers, what it keeps open, what it lets go."""

from __future__ import annotations

import contextlib
import os
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest

from appbundle.bundle.services import Service, Socket
from appbundle.layout import Layout
from appbundle.services import holder
from appbundle.services.embedded import definitions
from appbundle.services.embedded.definitions import Defined
from appbundle.services.embedded.places import Places
from tests.services.test_embedded import free_port, wait_until

WEB = Service(name="web", argv=("/bin/server",))


@dataclass(frozen=True, slots=True)
class Held:
    """A node with a holder."""

    places: Places

    def declare(self, *services: Service, trial: Service | None = None) -> None:
        """Let exactly these services of the app `web` exist."""
        found = [Defined(app="web", service=each) for each in services]
        if trial is not None:
            found.append(Defined(app="web", service=trial, version="2.0", generation=2))
        definitions.write(self.places, {each.instance: each for each in found})
        holder.ask(self.places.sockets, "reload")

    def fetch(self, name: str = "web/web", *, path: Path | None = None) -> dict[str, int]:
        """The descriptors of a service by their names, which are closed."""
        answer, descriptors = holder.fetch(path or self.places.sockets, name)
        addresses = {}
        for label, fd in zip(answer.split(":"), descriptors, strict=True):
            with socket.socket(fileno=fd) as found:
                addresses[label] = found.getsockname()[1]
        return addresses


def listening(port: int) -> bool:
    """Whether anybody takes connections at a port."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    except OSError:
        return False
    return True


def on(*ports: int) -> Service:
    """The service with sockets at these ports, named a, b, …"""
    sockets = (Socket(name=n, listen=f"127.0.0.1:{p}") for n, p in zip("abc", ports, strict=False))
    return msgspec.structs.replace(WEB, sockets=tuple(sockets))


@pytest.fixture
def held(memory: Path) -> Iterator[Held]:
    """A running holder that knows of nothing."""
    places = Places(Layout(memory))
    places.make()
    argv = [sys.executable, "-I", "-m", "appbundle.services.holder", str(memory)]
    with subprocess.Popen(argv) as process:
        wait_until(places.trial_sockets.exists, "no holder")
        yield Held(places)
        process.terminate()


def test_sockets_come_in_declared_order(held: Held) -> None:
    """A service gets its sockets by name, in order, and connections wait for it."""
    ports = [free_port(), free_port()]
    held.declare(on(*ports))
    assert list(held.fetch().items()) == [("a", ports[0]), ("b", ports[1])]
    assert listening(ports[0])


def test_close_and_reload_let_go(held: Held) -> None:
    """A port is free once its service is stopped, or is declared no more."""
    port = free_port()
    held.declare(on(port))
    for let_go in (
        lambda: holder.ask(held.places.sockets, "close web/web"),
        lambda: held.declare(),
    ):
        held.declare(on(port))
        holder.ask(held.places.sockets, "open web/web")
        assert listening(port)
        let_go()
        assert not listening(port)


def test_old_address_stays_until_the_service_asks(held: Held) -> None:
    """A new address takes the old one's place when its service starts, and not before."""
    old, new = free_port(), free_port()
    held.declare(on(old))
    held.fetch()
    held.declare(on(new))
    assert (listening(old), listening(new)) == (True, False)
    held.fetch()
    assert (listening(old), listening(new)) == (False, True)


def test_trial_has_sockets_of_its_own(held: Held) -> None:
    """A second instance on trial gets its own sockets, where only such instances ask."""
    port, trial = free_port(), free_port()
    held.declare(on(port), trial=on(trial))
    assert held.fetch() == {"a": port}
    assert held.fetch(path=held.places.trial_sockets) == {"a": trial}


def test_taken_port_opens_nothing(held: Held) -> None:
    """If one of several sockets is not to be had, none is opened, and the answer says which."""
    port = free_port()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        other = taken.getsockname()[1]
        held.declare(on(port, other))
        with pytest.raises(holder.HolderError, match=f"127.0.0.1:{other}: Address already in use"):
            held.fetch()
    assert not listening(port)


def test_path_is_below_the_root(held: Held) -> None:
    """A socket with a path is below the node's root, for everybody, and replaces a stale one."""
    service = msgspec.structs.replace(WEB, sockets=(Socket(name="a", listen="/run/web/inner/api"),))
    path = held.places.layout.root / "run/web/inner/api"
    path.parent.mkdir(parents=True)
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))
    held.declare(service)
    holder.ask(held.places.sockets, "open web/web")
    assert stat.S_IMODE(path.stat().st_mode) == 0o666
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to give files away")
def test_directory_of_a_path_is_the_service_s(held: Held) -> None:
    """What is made for a socket below /run is the app's own, as it would make it itself."""
    service = msgspec.structs.replace(WEB, sockets=(Socket(name="a", listen="/run/web/api"),))
    root = held.places.layout.root
    (root / "etc").mkdir(exist_ok=True)
    (root / "etc/passwd").write_text("appb-web:x:998:997::/:/bin/false\n")
    held.declare(service)
    holder.ask(held.places.sockets, "open web/web")
    for path, mode in (("run", 0o755), ("run/web", 0o700), ("run/web/api", 0o666)):
        status = (root / path).stat()
        assert stat.S_IMODE(status.st_mode) == mode
        assert (status.st_uid, status.st_gid) == ((0, 0) if path == "run" else (998, 997))


def test_planted_link_is_not_followed(held: Held) -> None:
    """A link that a service has placed where its socket goes leads nowhere."""
    service = msgspec.structs.replace(WEB, sockets=(Socket(name="a", listen="/run/web/inner/api"),))
    elsewhere = held.places.layout.root / "elsewhere"
    elsewhere.mkdir()
    (held.places.layout.root / "run/web").mkdir()
    (held.places.layout.root / "run/web/inner").symlink_to(elsewhere)
    held.declare(service)
    with pytest.raises(holder.HolderError, match="cannot listen"):
        held.fetch()
    assert list(elsewhere.iterdir()) == []


def test_silence_and_noise_do_no_harm(held: Held) -> None:
    """A client that sends nothing, too much or nonsense gets an error or nothing; others go on."""
    held.declare(on(free_port()))
    for sent in (b"", b"\xff\xfe\n", b"a" * 10_000, b"no/such\n", b"close\n"):
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(held.places.sockets))
            client.sendall(sent)
            client.shutdown(socket.SHUT_WR)
            answer = b""
            with contextlib.suppress(ConnectionResetError):
                answer = client.recv(4096)
            assert answer == b"" or answer.startswith((b"error: ", b"ok"))
    assert held.fetch()


@pytest.mark.root
def test_other_users_get_nothing(held: Held) -> None:
    """Only root and the holder's user are answered, even if another user could connect."""
    held.declare(on(free_port()))
    held.places.sockets.chmod(0o666)
    script = (
        "import os, socket, sys\n"
        "os.setgid(65534); os.setuid(65534)\n"
        "c = socket.socket(socket.AF_UNIX); c.connect(sys.argv[1])\n"
        "try: c.sendall(b'web/web\\n'); data, fds, _, _ = socket.recv_fds(c, 4096, 16)\n"
        "except ConnectionError: data, fds = b'', []\n"
        "print(len(data), len(fds))\n"
    )
    argv = [sys.executable, "-I", "-c", script, str(held.places.sockets)]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    assert done.stdout == "0 0\n"
