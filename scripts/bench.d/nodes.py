"""Nodes that keep services running: with a systemd of their own, or appb's embedded supervisor."""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import product
import signing
from disk import fresh_disk
from measure import SEARCH_PATH, TIME_LIMIT_S, ChildFailed, Command, command, family, output, run

from tests.services.booted import booted, why_not

SYSTEMD, EMBEDDED = "systemd", "embedded"
_PATIENCE_S = 60.0
_END_S = 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A place where commands are run.

    Args:
        root: Its files, as seen from here.
        apps: Where its versions are, as seen by a command in it.
        prefix: Goes before the words of each command.
        appb: How appb is called there.
        first: The process, as numbered here, that all others of it descend from.
    """

    root: Path
    apps: Path
    prefix: tuple[str, ...]
    appb: tuple[str, ...]
    first: int

    def command(self, *words: str | Path) -> Command:
        """A command in it."""
        return command(*self.prefix, *words)

    def run(self, *words: str | Path) -> None:
        """Run a command in it."""
        run([self.command(*words)])

    def run_appb(
        self, *words: str | Path, status: int = 0, time_limit_s: float = TIME_LIMIT_S
    ) -> None:
        """Run appb in it.

        Raises:
            ChildFailed: It ended with another exit code than `status`.
        """
        try:
            run([self.command(*self.appb, "-q", *words)], time_limit_s=time_limit_s)
        except ChildFailed as error:
            if error.status != status:
                raise
        else:
            if status:
                raise ChildFailed(f"exit 0, not {status}: appb {' '.join(map(str, words))}", 0)

    def show(self, *words: str | Path) -> str:
        """What a command in it prints."""
        return output(self.command(*words))

    def copy_files(self, name: str, version: str) -> None:
        """Give a version files of its own, in the place of the links into the pool."""
        # Neither the pool nor other versions are among what is copied, so the links are not kept.
        script = 'cp -a "$1" "$1.copy" && rm -r "$1" && mv "$1.copy" "$1"'
        self.run("sh", "-c", script, "sh", self.apps / name / version)


def here() -> Node:
    """This very machine, for tools that need no node."""
    return Node(root=Path("/"), apps=Path("/apps"), prefix=(), appb=(), first=os.getpid())


def kinds() -> tuple[str, ...]:
    """Which nodes can be made here, by who keeps their services."""
    return (EMBEDDED,) if why_not() else (SYSTEMD, EMBEDDED)


@contextlib.contextmanager
def node(
    workdir: Path, kind: str, *, within: Sequence[str] = (), without: Sequence[str] = ()
) -> Iterator[Node]:
    """Make an empty node that trusts the bench's key; its /apps is on a fresh disk.

    Args:
        within: What every command line begins with, where the node has no network of its own:
            one with systemd always has one.
        without: This machine's services that one with systemd shall not have.
    """
    with fresh_disk(workdir) as disk:
        with (
            _systemd(disk, workdir, without) if kind == SYSTEMD else embedded(disk, within) as made
        ):
            signing.trust(made.root, workdir)
            yield made


@contextlib.contextmanager
def _systemd(disk: Path, workdir: Path, without: Sequence[str]) -> Iterator[Node]:
    apps = disk / "apps"
    apps.mkdir()

    def prepare(root: Path) -> None:
        for name in without:
            for place in (f"usr/lib/systemd/system/{name}.service", f"etc/init.d/{name}"):
                (root / place).unlink(missing_ok=True)

    with booted(f"{apps}:/apps", str(workdir), prepare=prepare) as machine:
        yield Node(
            root=machine.root,
            apps=Path("/apps"),
            prefix=machine.prefix,
            appb=product.appb_words(),
            first=machine.pid,
        )


@contextlib.contextmanager
def embedded(root: Path, within: Sequence[str] = ()) -> Iterator[Node]:
    """Supervise the node below a directory as long as this lasts."""
    appb = product.appb_words(root=root)
    # Nothing reads what it says, so it must not be a pipe.
    process = subprocess.Popen(
        [*within, *appb, "supervise"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={"PATH": SEARCH_PATH, "HOME": "/root", "LANG": "C.UTF-8"},
    )
    try:
        _await_supervisor(root, process)
        yield Node(
            root=root, apps=root / "apps", prefix=tuple(within), appb=appb, first=process.pid
        )
    finally:
        _end(process)


def _end(supervisor: subprocess.Popen[bytes]) -> None:
    """Let it stop its services; what has not ended after a long time is killed."""
    supervisor.send_signal(signal.SIGTERM)
    try:
        supervisor.wait(timeout=_END_S)
    except subprocess.TimeoutExpired:
        for pid in family(supervisor.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        supervisor.wait()


def _await_supervisor(root: Path, process: subprocess.Popen[bytes]) -> None:
    from appbundle.layout import Layout
    from appbundle.services.embedded.backend import Embedded

    keeper, deadline = Embedded(Layout(root)), time.monotonic() + _PATIENCE_S
    while not keeper.is_running:
        if process.poll() is not None or time.monotonic() > deadline:
            raise ChildFailed(f"appb supervise does not come up for {root}")
        time.sleep(0.01)
