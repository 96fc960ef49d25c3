"""The client of ssh-agent, against a real agent and against one that misbehaves."""

import shutil
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from appbundle.errors import NotFoundError, UnsupportedError
from appbundle.flows.sign import open_signer
from appbundle.system import ssh_agent
from appbundle.system.ssh_agent import Agent
from appbundle.trust import keys, sshsig
from appbundle.trust.keys import PrivateKey

needs_agent = pytest.mark.skipif(
    not (shutil.which("ssh-agent") and shutil.which("ssh-add")), reason="no ssh-agent here"
)
MESSAGE = b"a statement\n"


def framed(content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + content


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[str]:
    """A real ssh-agent of our own; gives its socket."""
    path = tmp_path / "agent"
    with subprocess.Popen(
        ["ssh-agent", "-D", "-a", str(path)], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
    ) as process:
        try:
            deadline = time.monotonic() + 20
            while not path.exists() and time.monotonic() < deadline:
                time.sleep(0.01)
            yield str(path)
        finally:
            process.kill()


def ssh_add(agent: str, *argv: str | Path, stdin: bytes = b"") -> None:
    subprocess.run(
        ["ssh-add", *map(str, argv)],
        input=stdin,
        env={"PATH": "/usr/bin:/bin", "SSH_AUTH_SOCK": agent},
        check=True,
        capture_output=True,
        timeout=30,
    )


def add_key(agent: str) -> PrivateKey:
    made = keys.generate()
    ssh_add(agent, "-q", "-", stdin=made.private)
    return keys.load_private_key(made.private)


@needs_agent
def test_agent_signs_as_the_file_does(agent: str) -> None:
    """A signature by way of the agent is that of the private file, with its type in front."""
    key = add_key(agent)
    assert Agent(agent).identities() == [key.public.blob]
    signature = Agent(agent).sign(key.public.blob, MESSAGE)
    assert signature == framed(b"ssh-ed25519") + framed(key.sign(MESSAGE))


@needs_agent
def test_agent_signs_bundles(agent: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """With the public file alone, and with the encrypted private one, the agent signs."""
    made = keys.generate(passphrase=b"secret")
    key = keys.load_private_key(made.private, passphrase=b"secret")
    (tmp_path / "key").write_bytes(made.private)
    (tmp_path / "key.pub").write_text(f"{made.public.line}\n")
    clear = tmp_path / "clear"
    clear.write_bytes(made.private)
    clear.chmod(0o600)
    strip = ["ssh-keygen", "-p", "-q", "-P", "secret", "-N", "", "-f", str(clear)]
    subprocess.run(strip, check=True, timeout=30, capture_output=True)
    ssh_add(agent, "-q", clear)
    monkeypatch.setenv("SSH_AUTH_SOCK", agent)

    def ask(prompt: str) -> str:
        raise AssertionError("the agent has the key: nobody is asked for a passphrase")

    for name in ("key", "key.pub"):
        signer = open_signer(str(tmp_path / name), ask)
        assert sshsig.sign_blob(MESSAGE, signer) == sshsig.sign_blob(MESSAGE, key)


@needs_agent
def test_agent_lists_what_it_holds(agent: str, tmp_path: Path) -> None:
    """Every key is listed, of whatever type; an empty agent has none."""
    assert Agent(agent).identities() == []
    for key_type in ("ed25519", "ecdsa"):
        path = tmp_path / key_type
        argv = ["ssh-keygen", "-q", "-t", key_type, "-N", "", "-f", path]
        subprocess.run(argv, check=True, timeout=30, stdin=subprocess.DEVNULL)
        ssh_add(agent, "-q", path)
    public = keys.parse_public_key((tmp_path / "ed25519.pub").read_text())
    held = Agent(agent).identities()
    assert len(held) == 2
    assert public.blob in held


@needs_agent
def test_key_that_the_agent_lacks(agent: str) -> None:
    """An agent that has lost a key refuses to sign with it."""
    key = add_key(agent)
    ssh_add(agent, "-q", "-D")
    with pytest.raises(NotFoundError, match="refused"):
        Agent(agent).sign(key.public.blob, MESSAGE)


def test_no_agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No variable gives no agent; no socket, or one of an ended session, is said as not found."""
    for value in (None, ""):
        monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
        if value is not None:
            monkeypatch.setenv("SSH_AUTH_SOCK", value)
        assert Agent.from_environment() is None
    dead = tmp_path / "dead"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(dead))
    for path in (str(tmp_path / "nothing"), str(dead)):
        monkeypatch.setenv("SSH_AUTH_SOCK", path)
        found = Agent.from_environment()
        assert found is not None
        with pytest.raises(NotFoundError, match="listens"):
            found.identities()


def test_path_that_no_socket_can_have() -> None:
    """A path that is too long for a socket is an error and no traceback."""
    with pytest.raises(UnsupportedError):
        Agent("/" + "x" * 300).identities()


@pytest.fixture
def answering(tmp_path: Path) -> Iterator[Callable[[bytes], str]]:
    """An agent that gives one fixed answer and hangs up."""
    servers: list[tuple[socket.socket, threading.Thread]] = []

    def serve(server: socket.socket, answer: bytes) -> None:
        connection, _ = server.accept()
        with connection:
            connection.recv(65536)
            connection.sendall(answer)

    def start(answer: bytes) -> str:
        path = str(tmp_path / f"fake-{len(servers)}")
        server = socket.socket(socket.AF_UNIX)
        server.bind(path)
        server.listen(1)
        thread = threading.Thread(target=serve, args=(server, answer), daemon=True)
        thread.start()
        servers.append((server, thread))
        return path

    yield start
    for server, thread in servers:
        thread.join(timeout=5)
        server.close()


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"\0\0",
        framed(b""),
        framed(b"\x05"),
        framed(b"\x0c"),
        framed(b"\x0c\0\0"),
        framed(b"\x0c\0\0\0\x01"),
        framed(b"\x0c\0\0\0\x01\0\0\0\xffxx"),
        framed(b"\x0c\xff\xff\xff\xff" + bytes(1000)),
        b"\xff\xff\xff\xff\x0c",
        b"\0\0\x01\0\x0c short",
    ],
)
def test_nonsense_instead_of_a_list(answering: Callable[[bytes], str], answer: bytes) -> None:
    """An agent that hangs up, lies about lengths or answers something else is an error."""
    with pytest.raises((NotFoundError, UnsupportedError)):
        Agent(answering(answer)).identities()


@pytest.mark.parametrize(
    "answer", [framed(b"\x05"), framed(b"\x0e"), framed(b"\x0e\0\0\0\x08short")]
)
def test_nonsense_instead_of_a_signature(answering: Callable[[bytes], str], answer: bytes) -> None:
    """A refusal or a cut answer is an error, never a signature."""
    with pytest.raises((NotFoundError, UnsupportedError)):
        Agent(answering(answer)).sign(bytes(51), MESSAGE)


def test_agent_that_does_not_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A silent agent is given up after the time limit."""
    monkeypatch.setattr(ssh_agent, "_LIST_TIMEOUT_S", 0.05)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "silent"))
        server.listen(1)
        with pytest.raises(UnsupportedError, match="does not answer"):
            Agent(str(tmp_path / "silent")).identities()
