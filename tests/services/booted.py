"""A node with a booted systemd of its own, in a container over this machine's own files.

Overlay: everything of this machine is there, and nothing of it changes. Only PID 1 is new.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

BOOT_S = 60.0
REPOSITORY = Path(__file__).resolve().parents[2]
APPB = (sys.executable, "-m", "appbundle")


@dataclass(frozen=True, slots=True)
class Said:
    """What a command in the node gave."""

    status: int
    stdout: str
    stderr: str

    @property
    def document(self) -> Any:
        """The JSON on stdout."""
        return json.loads(self.stdout)


@dataclass(frozen=True, slots=True)
class Booted:
    """A running node.

    Args:
        pid: Of its PID 1, on this machine.
        root: Its files, from here.
        scratch: A directory that both see at the same path.
    """

    pid: int
    root: Path
    scratch: Path

    @property
    def prefix(self) -> tuple[str, ...]:
        """What starts a program in the node, before its words."""
        return ("nsenter", "-t", str(self.pid), "-a", "--")

    def run(self, *argv: str, timeout_s: float = 120, check: bool = False) -> Said:
        """Run a program in the node."""
        done = self.start(*argv)
        try:
            stdout, stderr = done.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            done.kill()
            raise
        said = Said(done.returncode, stdout, stderr)
        assert not check or said.status == 0, f"{argv}: {said}"
        return said

    def start(self, *argv: str) -> subprocess.Popen[str]:
        """Start a program in the node."""
        return subprocess.Popen(
            [*self.prefix, *argv],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={"PATH": os.environ["PATH"], "LANG": "C.UTF-8", "PYTHONDONTWRITEBYTECODE": "1"},
        )

    def appb(self, *arguments: str, check: bool = True, timeout_s: float = 120) -> Said:
        """Run `appb` in the node."""
        return self.run(*APPB, *arguments, check=check, timeout_s=timeout_s)

    def systemctl(self, *arguments: str, check: bool = True) -> str:
        """Run `systemctl` in the node and give what it prints."""
        return self.run("systemctl", "--no-pager", *arguments, check=check).stdout.strip()

    def show(self, unit: str, name: str) -> str:
        """One property of a unit."""
        return self.systemctl("show", "--value", f"--property={name}", "--", unit)

    def pids(self, unit: str) -> list[int]:
        """The processes of a unit, by their numbers in the node."""
        group = self.show(unit, "ControlGroup")
        for place in ("/sys/fs/cgroup/systemd", "/sys/fs/cgroup"):
            said = self.run("cat", f"{place}{group}/cgroup.procs")
            if said.status == 0:
                return [int(word) for word in said.stdout.split()]
        return []

    def reset(self) -> None:
        """Remove every app and all that a test has left, so that the next finds an empty node."""
        for app in self.appb("--json", "list").document["apps"]:
            for version in app["versions"]:
                self.appb("unpin", f"{app['name']}@{version['version']}", check=False)
            self.appb("remove", "--purge", app["name"])
        self.run("sh", "-c", "rm -rf /apps /etc/systemd/system/*.service.d /var/lib/appb-*")
        self.systemctl("daemon-reload")
        self.systemctl("reset-failed")


def why_not() -> str:
    """Why no systemd can be booted here; nothing if one can."""
    if os.geteuid() != 0:
        return "needs root"
    for program in ("systemd-nspawn", "nsenter"):
        if shutil.which(program) is None:
            return f"needs {program}"
    return "" if Path("/lib/systemd/systemd").exists() else "needs systemd"


@contextlib.contextmanager
def booted(*binds: str) -> Iterator[Booted]:
    """Boot a node, and shut it down.

    Args:
        binds: What it shares with this machine, each as systemd-nspawn(1) takes it for --bind; all
            else that it writes is in memory.
    """
    with tempfile.TemporaryDirectory(prefix="appb-node-") as place, contextlib.ExitStack() as stack:
        base = Path(place)
        base.chmod(0o755)
        layers, merged = base / "layers", base / "merged"
        layers.mkdir()
        merged.mkdir()
        _mount(stack, layers, "-t", "tmpfs", "-o", "mode=0755", "tmpfs")
        for name in ("upper", "work"):
            (layers / name).mkdir()
        options = f"lowerdir=/,upperdir={layers}/upper,workdir={layers}/work"
        _mount(stack, merged, "-t", "overlay", "-o", options, "overlay")
        scratch = base / "scratch"
        scratch.mkdir()
        shutil.rmtree(merged / "apps", ignore_errors=True)
        log = stack.enter_context((base / "console").open("wb"))
        groups = _own_groups(stack, base.name)
        process = subprocess.Popen(
            [
                *("/bin/sh", "-c", _JOIN, "sh", *map(str, groups), "--"),
                *("systemd-nspawn", f"--directory={merged}", "--register=no", "--keep-unit"),
                "--private-network",
                *(
                    "--console=pipe",
                    f"--bind={scratch}",
                    "--quiet",
                    # Inside, /tmp is another one, and the tests may lie there.
                    f"--bind={REPOSITORY}",
                    f"--bind={Path(sys.prefix)}",
                    *(f"--bind={each}" for each in binds),
                    "--kill-signal=SIGRTMIN+3",
                ),
                *("/bin/sh", "-c", "exec /lib/systemd/systemd"),
            ],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
        stack.callback(_end, process)
        node = Booted(_init_of(process), merged, scratch)
        _wait_running(node, base / "console")
        yield node


_JOIN = 'while [ "$1" != -- ]; do echo $$ > "$1/cgroup.procs"; shift; done; shift; exec "$@"'


def _own_groups(stack: contextlib.ExitStack, name: str) -> list[Path]:
    """Make control groups for one container: two in the same would move each other's processes."""
    places = ("/sys/fs/cgroup/systemd", "/sys/fs/cgroup/unified", "/sys/fs/cgroup")
    found = [Path(place) / name for place in places if Path(place, "cgroup.procs").exists()]
    for group in found:
        group.mkdir()
        stack.callback(_remove_groups, group)
    return found


def _remove_groups(group: Path) -> None:
    for here, _, _ in os.walk(group, topdown=False):
        with contextlib.suppress(OSError):
            os.rmdir(here)


def _mount(stack: contextlib.ExitStack, target: Path, *words: str) -> None:
    subprocess.run(["mount", *words, target], check=True)
    stack.callback(lambda: subprocess.run(["umount", "-Rl", target], check=False))


def _init_of(process: subprocess.Popen[bytes]) -> int:
    deadline = time.monotonic() + BOOT_S
    while time.monotonic() < deadline and process.poll() is None:
        said = subprocess.run(
            ["pgrep", "--parent", str(process.pid)], capture_output=True, text=True, check=False
        )
        for word in said.stdout.split():
            with contextlib.suppress(OSError):
                if os.readlink(f"/proc/{word}/exe").endswith("/systemd"):
                    return int(word)
        time.sleep(0.1)
    raise AssertionError("no systemd was started")


def _wait_running(node: Booted, console: Path) -> None:
    deadline = time.monotonic() + BOOT_S
    state = ""
    while time.monotonic() < deadline:
        state = node.run("systemctl", "is-system-running").stdout.strip()
        if state in ("running", "degraded"):
            return
        time.sleep(0.2)
    raise AssertionError(f"the node is {state or 'dead'}: {console.read_text(errors='replace')}")


def _end(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(timeout=20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def wait_until(condition: Callable[[], bool], seconds: float = 20) -> bool:
    """Whether something becomes true in time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.2)
    return False
