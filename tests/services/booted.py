"""A node with a booted systemd of its own, in a container over this machine's or another's files.

Overlay: everything of the tree below is there, and nothing of it changes. Only PID 1 is new.
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
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

BOOT_S, END_S = 60.0, 20.0
REPOSITORY = Path(__file__).resolve().parents[2]


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


@dataclass(slots=True)
class Booted:
    """A running node.

    Args:
        root: Its files, from here.
        scratch: A directory that both see at the same path.
        python: What runs appb in the node.
        container: The command that boots it, and ends with it.
        pid: Of its PID 1, on this machine.
    """

    root: Path
    scratch: Path
    python: str
    container: Sequence[str]
    pid: int = 0
    _process: subprocess.Popen[bytes] | None = None

    @property
    def appb_words(self) -> tuple[str, ...]:
        """What a command line of `appb` begins with, in the node."""
        return (self.python, "-m", "appbundle")

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
        return self.run(*self.appb_words, *arguments, check=check, timeout_s=timeout_s)

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

    def boot(self) -> None:
        """Boot it, and wait until it is up."""
        console = self.scratch / "console"
        with console.open("wb") as log:
            self._process = subprocess.Popen(
                self.container, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        self.pid = _init_of(self._process, console)
        _wait_running(self, console)

    def reboot(self) -> None:
        """Shut it down and boot it again; its disk stays."""
        self.systemctl("reboot", check=False)
        self.end(asked=True)
        self.boot()

    def end(self, *, asked: bool = False) -> None:
        """Shut it down, unless it was asked to already."""
        if self._process is None:
            return
        if not asked:
            self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(timeout=END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def reset(self) -> None:
        """Remove every app and all that a test has left, so that the next finds an empty node."""
        for app in self.appb("--json", "list").document["apps"]:
            for version in app["versions"]:
                self.appb("unpin", f"{app['name']}@{version['version']}", check=False)
            self.appb("remove", "--purge", app["name"])
        self.appb("upgrade", "--unschedule", check=False)
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
def booted(
    *binds: str,
    tree: Path = Path("/"),
    python: str = sys.executable,
    prepare: Callable[[Path], None] = lambda root: None,
) -> Iterator[Booted]:
    """Boot a node, and shut it down.

    Args:
        binds: What it shares with this machine, each as systemd-nspawn(1) takes it for --bind; all
            else that it writes is in memory.
        tree: Its files; nothing in it is changed.
        python: An interpreter of it that has what appb needs.
        prepare: Called with the node's root before it is booted.
    """
    with tempfile.TemporaryDirectory(prefix="appb-node-") as place, contextlib.ExitStack() as stack:
        base = Path(place)
        base.chmod(0o755)
        merged, scratch = _lay_over(stack, base, tree), base / "scratch"
        scratch.mkdir()
        shutil.rmtree(merged / "apps", ignore_errors=True)
        prepare(merged)
        # Inside, /tmp is another one, and the tests may lie there.
        shown = [scratch, REPOSITORY, *([sys.prefix] if tree == Path("/") else []), *binds]
        container = (
            *("/bin/sh", "-c", _JOIN, "sh", *map(str, _own_groups(stack, base.name)), "--"),
            *("systemd-nspawn", f"--directory={merged}", "--register=no", "--keep-unit"),
            *("--private-network", "--console=pipe", "--quiet", "--kill-signal=SIGRTMIN+3"),
            *(f"--bind={each}" for each in shown),
            *("/bin/sh", "-c", "exec /lib/systemd/systemd"),
        )
        node = Booted(merged, scratch, python, container)
        stack.callback(node.end)
        node.boot()
        yield node


def _lay_over(stack: contextlib.ExitStack, base: Path, tree: Path) -> Path:
    """Show a tree at another place, where it may be changed."""
    layers, merged = base / "layers", base / "merged"
    layers.mkdir()
    merged.mkdir()
    _mount(stack, layers, "-t", "tmpfs", "-o", "mode=0755", "tmpfs")
    for name in ("upper", "work"):
        (layers / name).mkdir()
    options = f"lowerdir={tree},upperdir={layers}/upper,workdir={layers}/work"
    _mount(stack, merged, "-t", "overlay", "-o", options, "overlay")
    return merged


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


def _init_of(process: subprocess.Popen[bytes], console: Path) -> int:
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
    raise AssertionError(f"no systemd was started: {console.read_text(errors='replace')}")


def _wait_running(node: Booted, console: Path) -> None:
    deadline = time.monotonic() + BOOT_S
    state = ""
    while time.monotonic() < deadline:
        state = node.run("systemctl", "is-system-running").stdout.strip()
        if state in ("running", "degraded"):
            return
        time.sleep(0.2)
    raise AssertionError(f"the node is {state or 'dead'}: {console.read_text(errors='replace')}")


def wait_until(condition: Callable[[], bool], seconds: float = 20) -> bool:
    """Whether something becomes true in time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.2)
    return False
