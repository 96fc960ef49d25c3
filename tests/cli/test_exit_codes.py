"""Exit codes: each documented one that can come about today comes from a real run."""

import fcntl
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.crash.support import Node, argv, make_bundle

Bundle = Callable[[str, int], Path]


@pytest.fixture
def running(node: Node, bundle: Bundle) -> Node:
    """A node that runs hello 2.0 and has 1.0."""
    for number in (1, 2):
        node.install(bundle("hello", number))
    return node


def appb(node: Node, *words: str) -> "subprocess.CompletedProcess[str]":
    """Run a command as a process."""
    return subprocess.run(argv(node, *words), capture_output=True, text=True, timeout=60)


def _damage(node: Node) -> None:
    (node.version("hello", "1.0") / "share/version").unlink()


def _distrust(node: Node) -> None:
    node.layout.allowed_signers.write_text("")


def _nothing(node: Node) -> None:
    pass


@pytest.mark.parametrize(
    ("code", "words", "prepare"),
    [
        (0, "verify", _nothing),
        (1, "remove hello@2.0", _nothing),
        (2, "switch hello", _nothing),
        (2, "switch --nonsense", _nothing),
        (10, "switch hello@9.0", _nothing),
        (10, "switch --to 9", _nothing),
        (20, "install BUNDLE", _distrust),
        (21, "verify", _damage),
        (21, f"install {__file__}", _nothing),
    ],
)
def test_code_says_what_happened(
    running: Node, bundle: Bundle, code: int, words: str, prepare: Callable[[Node], None]
) -> None:
    """Scripts can tell success, refusal, misuse, absence, distrust and damage apart."""
    prepare(running)
    done = appb(running, *words.replace("BUNDLE", str(bundle("hello", 3))).split())
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr


def test_code_of_a_locked_node(running: Node) -> None:
    """11: another appb holds the lock for longer than one wants to wait; it is named."""
    with open(running.layout.lock, "r+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.truncate(0)
        file.write("install (process 4711)\n")
        file.flush()
        done = appb(running, "--lock-timeout", "0", "switch", "hello@1.0")
    assert done.returncode == 11
    assert "install (process 4711)" in done.stderr
    assert running.looks().apps == {"hello": "2.0"}


def test_code_of_an_interruption(running: Node) -> None:
    """130: Ctrl-C while waiting ends with a sentence, and nothing was changed."""
    with open(running.layout.lock, "r+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        process = subprocess.Popen(
            argv(running, "switch", "hello@1.0"), stderr=subprocess.PIPE, text=True
        )
        assert process.stderr
        assert "waiting for" in process.stderr.readline()
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=30)
    assert process.returncode == 130
    assert said.lstrip().startswith("error: interrupted\n")
    assert "Traceback" not in said
    assert running.looks().apps == {"hello": "2.0"}


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: a small file system")
def test_code_of_a_full_disk(node: Node, memory: Path) -> None:
    """22: a bundle that does not fit is refused before it is unpacked; the sentence has figures."""
    made = make_bundle(memory, "big", "1.0", tree={"blob": os.urandom(6 << 20)})
    root = memory / "small"
    root.mkdir(mode=0o755)
    command = argv(Node(root), "install", str(made))
    steps = (
        'mount -t tmpfs -o size=4m,mode=755 none "$0" && mkdir -p "$0/etc/appbundle" && '
        'printf "%s" "$1" >"$0/etc/appbundle/allowed_signers" && shift && exec "$@"'
    )
    signers = node.layout.allowed_signers.read_text()
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", steps, str(root), signers, *command],
        capture_output=True,
        text=True,
        timeout=60,
    )
    if "unshare" in done.stderr:
        pytest.skip("no mount namespace of our own")
    assert done.returncode == 22, done.stderr
    assert "more bytes" in done.stderr
