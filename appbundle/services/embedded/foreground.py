"""`appb supervise`: the process that everything embedded belongs to.

It starts the supervisor and, in the order that services ask for, what is enabled; reaps what is
left to it as process 1 of a container; and on SIGTERM stops the services in reverse order. If it
is killed, the supervisor gets SIGTERM from the kernel and ends with all services. If the supervisor
is killed, what that leaves behind is ended, and everything starts anew, as after a boot.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from appbundle.bundle.services import Service
from appbundle.errors import AppbError, LockedError, ServiceFailedError, UnsupportedError
from appbundle.layout import Layout
from appbundle.names import AppName, Version
from appbundle.services import holder, plan
from appbundle.services.embedded import definitions, node
from appbundle.services.embedded.backend import Embedded
from appbundle.services.embedded.control import Control, Program
from appbundle.services.embedded.definitions import Defined, Definitions
from appbundle.services.embedded.places import HOLDER, Places, line_of
from appbundle.services.model import Instance, Key, Wanted
from appbundle.services.plan import Levels
from appbundle.system import daemons, process, signals

_COMING_UP_S = 30.0
_LOCK_S = 1.0
_POLL_S = 0.02
_ENDING_S = 60.0
_LEFTOVERS_S = 15.0
_TOO_SOON_S = 5.0
_ENDING = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT})


def supervise(
    layout: Layout,
    wanted: Callable[[], Sequence[Wanted]],
    *,
    kind: str = "",
) -> None:
    """Keep a node's services running until a signal ends it.

    Args:
        layout: The node.
        wanted: Gives the apps of what is its current generation then.
        kind: Which supervisor, "" for what there is.

    Raises:
        LockedError: Another one does so already.
        UnsupportedError: There is no supervisor.
        ServiceFailedError: The supervisor does not come up, or not for long.
    """
    places = Places(layout)
    control = node.make_control(places, node.choose_kind(kind))
    places.make()
    lock_fd = _lock(places)
    try:
        _Foreground(Embedded(layout), places, control, wanted).run()
    finally:
        places.definitions.unlink(missing_ok=True)
        os.close(lock_fd)


def _lock(places: Places) -> int:
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = os.open(places.lock, flags, 0o600)
    deadline = time.monotonic() + _LOCK_S
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            # Whoever only looks at it has it for a moment.
            if time.monotonic() >= deadline:
                who = os.pread(fd, 20, 0).decode(errors="replace").strip()
                os.close(fd)
                raise LockedError(
                    f"this node is supervised already, by process {who}",
                    hint="end that one first; SIGTERM stops its services too",
                ) from None
            time.sleep(_POLL_S)
    os.ftruncate(fd, 0)
    os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
    return fd


@dataclass(slots=True)
class _Foreground:
    backend: Embedded
    places: Places
    control: Control
    wanted: Callable[[], Sequence[Wanted]]
    _supervisor: int = 0
    _began: float = 0.0
    _ended: dict[int, int] = field(default_factory=dict)

    def run(self) -> None:
        blocked = signals.block_all()
        signals.set_default(signals.SIGCHLD)
        try:
            while not self._keep():
                _say("the supervisor has ended by itself; everything starts anew")
        finally:
            daemons.end(self.places.mark, patience_s=_LEFTOVERS_S)
            signals.set_blocked(blocked)

    def _keep(self) -> bool:
        """Run the supervisor once; False if it ended by itself."""
        # First: who finds it takes the supervisor for ready.
        self.places.definitions.unlink(missing_ok=True)
        daemons.end(self.places.mark, patience_s=_LEFTOVERS_S)
        argv = self.control.prepare(self._holder())
        self.places.kind.write_text(f"{self.control.kind}\n")
        self._began = time.monotonic()
        self._ended = {}
        self._supervisor = daemons.start(argv, self.places.environment(), dies_with_us=True)
        boot = daemons.call(self._boot)
        while True:
            number, _ = signals.wait()
            if number in _ENDING:
                self._end(boot)
                return True
            if number != signals.SIGCHLD:
                continue
            ended = self._reap()
            if self._supervisor in ended:
                if time.monotonic() - self._began < _TOO_SOON_S:
                    raise ServiceFailedError(
                        f"the supervisor ended soon after its start ({self.control.kind})",
                        hint=f"see what it has said here, and in {self.places.logs}",
                    )
                return False
            if ended.get(boot) == os.EX_USAGE << 8:
                raise ServiceFailedError("the supervisor does not take commands")

    def _holder(self) -> Program:
        module = "appbundle.services.holder"
        return Program(
            argv=[sys.executable, "-I", "-m", module, str(self.places.layout.root)],
            log=self.places.log(HOLDER),
        )

    # In a child, so that a signal is heard meanwhile

    def _boot(self) -> int:
        signals.set_blocked(frozenset())
        try:
            self._wait_for_holder()
            self.backend.apply(self._lasting())
        except (AppbError, OSError) as error:
            _say(f"error: {error}")
            return os.EX_USAGE
        defined = definitions.read(self.places)
        todo = {
            each.key: each.service
            for each in definitions.enabled(self.places, defined)
            if not each.service.every
        }
        self._open_sockets(todo)
        for level in _in_levels(todo):
            try:
                self.backend.start(*map(Instance, level))
            except (AppbError, OSError) as error:
                _say(f"error: {error}")
        if self.backend.layout.pending.exists() and self.places.at_boot.exists():
            argv = json.loads(self.places.at_boot.read_text())
            daemons.start(argv, process.basic_environment(os.environ))
        return 0

    def _wait_for_holder(self) -> None:
        deadline = time.monotonic() + _COMING_UP_S
        while True:
            try:
                if self.control.is_running():
                    holder.ask(self.places.sockets, "reload")
                    return
            except AppbError:
                if time.monotonic() >= deadline:
                    raise
            if time.monotonic() >= deadline:
                raise ServiceFailedError(f"{self.control.kind} did not come up")
            time.sleep(_POLL_S)

    def _lasting(self) -> Definitions:
        all_of_them = (
            Defined(app=each.app, service=service)
            for each in self.wanted()
            for service in each.services
        )
        return {each.instance: each for each in all_of_them}

    def _open_sockets(self, todo: dict[Key, Service]) -> None:
        """All of them before the first service starts: who starts later is waited for."""
        for key, service in todo.items():
            if service.sockets:
                try:
                    holder.ask(self.places.sockets, f"open {line_of(key)}")
                except AppbError as error:
                    _say(f"error: {key}: {error}")

    def _end(self, boot: int) -> None:
        """Stop services, last ones first, then the supervisor."""
        stopping = daemons.call(self._stop_all)
        daemons.send(boot, signals.SIGTERM)
        self._wait_for(stopping, timeout_s=None)
        daemons.send(self._supervisor, signals.SIGTERM)
        self._wait_for(self._supervisor, timeout_s=_ENDING_S)

    def _stop_all(self) -> int:
        defined = definitions.read(self.places)
        services = {each.key: each.service for each in defined.values()}
        for level in reversed(_in_levels(services)):
            try:
                self.backend.stop(*(each for each in defined if each.key in level))
            except (AppbError, OSError) as error:
                _say(f"error: {error}")
        return 0

    def _reap(self) -> dict[int, int]:
        """Reap who has ended; gives all since the supervisor was started."""
        self._ended |= daemons.reap()
        return self._ended

    def _wait_for(self, pid: int, *, timeout_s: float | None) -> None:
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while pid not in self._reap():
            if deadline is not None and time.monotonic() >= deadline:
                daemons.send(pid, signals.SIGKILL)
            time.sleep(_POLL_S)


def _in_levels(services: Mapping[Key, Service]) -> Levels:
    """Services so that each level comes after what it needs; one by one if that is a circle."""
    nobody = Wanted(app=AppName(""), version=Version(""), generation=0, services=())
    try:
        return plan.in_levels({key: (nobody, each) for key, each in services.items()})
    except UnsupportedError as error:
        _say(f"error: {error}")
        return [[key] for key in sorted(services)]


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
