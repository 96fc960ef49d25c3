"""How a service starts, is signalled and ends, and what its end does to `appb run`."""

import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from appbundle.system.in_use import paths_in_use

from .node import appb, descendants, is_alive, make_node, run, sh, start, switch

pytestmark = pytest.mark.root


def _wait_until(condition: Callable[[], bool], *, timeout_s: float = 10) -> bool:
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


@pytest.mark.parametrize("code", [0, 3, 130, 255])
def test_exit_status_is_passed_on(tree: Path, code: int) -> None:
    """appb exits with the service's own exit code, also one above 128."""
    assert run(tree, "hello", "--", "/bin/sh", "-c", f"exit {code}").returncode == code


def test_declared_command_runs(tree: Path) -> None:
    """Without words after `--`, what the bundle declares is run."""
    assert run(tree, "hello").returncode == 7


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGPIPE, signal.SIGSEGV])
def test_death_by_signal_is_passed_on(tree: Path, number: signal.Signals) -> None:
    """appb dies of the signal that the service died of; no signal is left ignored for it."""
    done = run(tree, "hello", "--", "/bin/sh", "-c", f"kill -{int(number)} $$")
    assert done.returncode == -number


def test_missing_program_is_not_found(tree: Path) -> None:
    """A program that the tree lacks is an error of appb's, told as one."""
    done = run(tree, "hello", "--", "/bin/nothing")
    assert done.returncode == 10
    assert "/bin/nothing" in done.stderr


@pytest.mark.parametrize("name", ["TERM", "INT", "HUP", "USR1", "USR2", "QUIT", "WINCH", "CONT"])
def test_signal_reaches_the_service_once(tree: Path, name: str) -> None:
    """A signal sent to appb alone is seen by the service, one time."""
    script = (
        f"trap 'echo got' {name}; trap 'exit 4' ALRM; echo ready; "
        "while :; do read line && exit 5; done"
    )
    process = start(tree, script)
    assert process.stdout
    os.kill(process.pid, getattr(signal, f"SIG{name}"))
    time.sleep(0.2)
    os.kill(process.pid, signal.SIGALRM)
    assert process.wait(timeout=10) == 4
    assert process.stdout.read() == "got\n"


def test_signal_to_the_process_group_without_terminal_arrives_once(tree: Path) -> None:
    """A supervisor that signals its child's whole group does not signal the service twice."""
    process = start(
        tree, "trap 'echo got' TERM; trap 'exit 4' ALRM; echo ready; while :; do read x; done"
    )
    assert process.stdout
    os.killpg(process.pid, signal.SIGTERM)
    time.sleep(0.2)
    os.kill(process.pid, signal.SIGALRM)
    assert process.wait(timeout=10) == 4
    assert process.stdout.read() == "got\n"


def test_signal_that_comes_too_late_is_no_error(tree: Path) -> None:
    """A signal for a service that has ended meanwhile changes nothing of how appb ends."""
    process = start(tree, "echo ready; read x; exit 6")
    inside = descendants(process.pid)
    os.kill(process.pid, signal.SIGSTOP)
    assert process.stdin
    process.stdin.write("\n")
    process.stdin.flush()
    assert _wait_until(lambda: not any(map(is_alive, inside)))
    # Of what is pending the lower number is seen first, so before the news of the end.
    os.kill(process.pid, signal.SIGTERM)
    os.kill(process.pid, signal.SIGCONT)
    assert process.wait(timeout=10) == 6


def test_orphans_are_reaped(tree: Path) -> None:
    """A process whose parent has gone leaves no zombie."""
    script = "(/bin/sleep 0.1 & ); /bin/sleep 0.4; for p in /proc/[0-9]*; do echo ${p#/proc/}; done"
    assert sh(tree, script).split() == ["1", "2"]


def test_nothing_outlives_the_service(tree: Path) -> None:
    """When the service ends, the kernel ends all that it has started, daemons too."""
    process = start(tree, "(/bin/sleep 1000 & ); echo ready; read x; exit 6")
    inside = descendants(process.pid)
    assert len(inside) == 3
    assert process.communicate("\n", timeout=10) is not None
    assert process.returncode == 6
    assert _wait_until(lambda: not any(map(is_alive, inside)))


def test_killing_appb_kills_the_service(tree: Path) -> None:
    """SIGKILL leaves appb no last word, and still nothing stays behind."""
    process = start(tree, "/bin/sleep 1000 & echo ready; /bin/sleep 1000; :")
    assert _wait_until(lambda: len(descendants(process.pid)) == 4)
    inside = descendants(process.pid)
    process.kill()
    process.wait(timeout=10)
    assert _wait_until(lambda: not any(map(is_alive, inside)))


def test_service_cannot_kill_its_init(tree: Path) -> None:
    """Nor stop it."""
    assert sh(tree, "kill -KILL 1 2>/dev/null; kill -STOP 1 2>/dev/null; echo alive") == "alive\n"


def test_switch_during_a_run_changes_nothing_for_it(tmp_path: Path) -> None:
    """A running service keeps its version's files; the next one gets the new version's."""
    node = make_node(tmp_path, versions=("1.0", "2.0"))
    process = start(node, "echo ready; read x; cat /etc/release")
    switch(node, 2)
    assert process.communicate("\n", timeout=10)[0] == "1.0"
    assert sh(node, "cat /etc/release") == "2.0"
    assert run(node, "hello@1.0", "--", "cat", "/etc/release").stdout == "1.0"


def test_standard_streams_are_inherited(tree: Path) -> None:
    """What is piped in comes out, and errors stay apart."""
    done = run(tree, "hello", "--", "/bin/sh", "-c", "cat; echo oops >&2", stdin="through")
    assert (done.stdout, done.stderr) == ("through", "oops\n")


def _on_terminal(node: Path, script: str) -> tuple[int, int]:
    """Start a script in the foreground of a new terminal; returns its pid and the terminal."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(appb(node)[0], appb(node, "hello", "--", "/bin/sh", "-c", script))
    _read_until(terminal, b"ready")
    return pid, terminal


def _read_until(terminal: int, text: bytes) -> bytes:
    seen = b""
    while text not in seen:
        try:
            seen += os.read(terminal, 1024)
        except OSError:
            break
    return seen


def test_interrupt_key_arrives_once(tree: Path) -> None:
    """Ctrl-C reaches the service through the terminal, and is not forwarded a second time."""
    script = "trap 'echo got' INT; trap 'exit 4' ALRM; echo ready; while :; do read x; done"
    pid, terminal = _on_terminal(tree, script)
    os.write(terminal, b"\x03")
    time.sleep(0.3)
    os.kill(pid, signal.SIGALRM)
    assert _read_until(terminal, b"never").count(b"got") == 1
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 4
    os.close(terminal)


def test_interrupt_key_ends_a_service_that_does_not_care(tree: Path) -> None:
    """Ctrl-C ends appb as it ends the service: by SIGINT, as shells want it."""
    # exec: a shell that waits for a child may miss a key pressed just before it forks.
    pid, terminal = _on_terminal(tree, "echo ready; exec cat")
    os.write(terminal, b"\x03")
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGINT
    os.close(terminal)


def test_appb_stops_when_it_is_told_to(tree: Path) -> None:
    """SIGTSTP stops service and appb, so that a shell takes the terminal back; SIGCONT resumes."""
    process = start(tree, "echo ready; read x; exit 3")
    os.kill(process.pid, signal.SIGTSTP)
    assert os.WIFSTOPPED(os.waitpid(process.pid, os.WUNTRACED)[1])
    service = descendants(process.pid)[-1]
    state = Path(f"/proc/{service}/stat")
    assert _wait_until(lambda: state.read_text().rpartition(")")[2].split()[0] == "T")
    os.kill(process.pid, signal.SIGCONT)
    assert process.communicate("\n", timeout=10) is not None
    assert process.returncode == 3


def test_unknown_app_and_version_are_not_found(tree: Path) -> None:
    """Both exit with 10 and say what to do."""
    for ref in ("nothing", "hello@9"):
        done = run(tree, ref)
        assert done.returncode == 10
        assert "hint: " in done.stderr


def test_dry_run_changes_nothing(tmp_path: Path) -> None:
    """--dry-run prints the steps, and not even the state directory is made."""
    node = make_node(tmp_path)
    done = run(node, "--dry-run", "hello")
    assert done.returncode == 0
    assert f"take {node}/apps/hello/1.0 as root (ro,nosuid,nodev)" in done.stdout
    assert not (node / "var").exists()


def test_damaged_description_is_corrupt(tmp_path: Path) -> None:
    """A broken about.json is told as damage, not as a traceback."""
    node = make_node(tmp_path)
    about = node / "apps/hello/1.0/.bundle/about.json"
    for text in ("", "{", "[]", '{"manifest": {"run": {"argv": 3}}}', '{"manifest": {}} x'):
        about.write_text(text)
        done = run(node, "hello")
        assert done.returncode == 21, (text, done.stderr)


def test_fast_path_avoids_heavy_modules() -> None:
    """`appb run` imports nothing that takes milliseconds: it runs before every service."""
    root = Path(__file__).parents[2]
    heavy = {"click", "re", "enum", "json", "typing", "pathlib", "dataclasses", "msgspec"}
    code = (
        f"import sys; sys.path.insert(0, {str(root)!r}); import appbundle.cli.run, "
        f"appbundle.flows.run; print(sorted({heavy!r} & sys.modules.keys()))"
    )
    # -S: a virtual environment's own start-up imports some of them.
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"


def test_running_sandbox_counts_as_use(tree: Path) -> None:
    """What appb runs is found in use, so that gc keeps it."""
    process = start(tree, "echo ready; read x")
    assert paths_in_use(str(tree / "apps")) == {str(tree / "apps/hello/1.0")}
    process.communicate("\n", timeout=10)
    assert paths_in_use(str(tree / "apps")) == set()
