"""The embedded supervisor as a keeper of services: the same promises as systemd's."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Self

from appbundle.bundle.service_rules import TASK
from appbundle.bundle.services import Service
from appbundle.bundle.tasks import Task
from appbundle.errors import AppbError, ServiceFailedError, UnsupportedError, joined
from appbundle.layout import Layout
from appbundle.names import AppName
from appbundle.services import holder, own, users
from appbundle.services.embedded import calendar, definitions, processes
from appbundle.services.embedded.control import Control, Ended, Patience, Program, Status
from appbundle.services.embedded.definitions import Defined, Definitions
from appbundle.services.embedded.node import control_of, is_supervised, start_detached
from appbundle.services.embedded.places import Places, line_of, name_of
from appbundle.services.model import ABSENT, Declared, Instance, Key, Seen, State, Wanted
from appbundle.services.running import renew, source_of_root
from appbundle.system import files, process

READY_FD = 3

_POLL_S = 0.02
_PATIENCE_S = 15.0
_CLEAN = frozenset({signal.SIGHUP, signal.SIGINT, signal.SIGPIPE, signal.SIGTERM})
"""As systemd.service(5) has it: who ends by one of these has not failed."""


@dataclass(frozen=True, slots=True)
class Embedded:
    """s6 or supervisor, on a node whose PID 1 is not systemd, or below a root directory.

    Args:
        layout: The node.
    """

    layout: Layout

    @property
    def places(self) -> Places:
        """Its files."""
        return Places(self.layout)

    @property
    def is_running(self) -> bool:
        """Whether `appb supervise` runs for this node and has come so far as to take commands."""
        return is_supervised(self.places) and self.places.definitions.exists()

    def ensure_running(self) -> None:
        """Start it, detached, where that is nobody else's decision: on a live node.

        Raises:
            UnsupportedError: It does not run, and this is a node below a directory.
            ServiceFailedError: It did not come up.
        """
        if self.is_running:
            return
        if self.layout.root != Path("/"):
            raise UnsupportedError(
                f"nobody keeps the services below {self.layout.root} running",
                hint=f"start it, and leave it running: appb --root {self.layout.root} supervise",
            )
        start_detached(self.places, ready=lambda: self.is_running)

    @property
    def _control(self) -> Control:
        return control_of(self.places)

    # What exists

    def check(self, wanted: Sequence[Wanted]) -> None:
        """Refuse a calendar event that this supervisor cannot have."""
        for each in wanted:
            for service in each.services:
                _check(service)

    def define(self, wanted: Sequence[Wanted]) -> None:
        """Tell the supervisor and the holder of these services; others end and are forgotten."""
        lasting: Definitions = {}
        for each in wanted:
            for service in each.services:
                _check(service)
                found = Defined(app=each.app, service=service)
                lasting[found.instance] = found
        if not lasting and not self.is_running:
            return
        self.ensure_running()
        self.apply(lasting)

    def apply(self, lasting: Definitions) -> None:
        """As `define`, for the supervisor that has just been started."""
        before = definitions.read(self.places)
        seconds = {instance: each for instance, each in before.items() if instance.is_next}
        if os.geteuid() == 0:
            for app in sorted({key.app for key, _ in lasting}):
                users.ensure(self.layout, app)
        control = self._control
        gone = {i: each for i, each in before.items() if i not in lasting and not i.is_next}
        control.down(_patience(gone))
        for instance in gone:
            control.remove(name_of(instance))
        for instance, each in lasting.items():
            control.put(name_of(instance), self._program(each))
        lines = {line_of(instance.key) for instance in lasting}
        off = definitions.read_disabled(self.places)
        if before:
            definitions.write_disabled(self.places, off & lines)
        definitions.write(self.places, lasting | seconds)
        holder.ask(self.places.sockets, "reload")

    def define_next(self, *declared: Declared, shared: bool) -> None:
        """Let second instances exist, which are never started at boot."""
        for _, service in declared:
            _check(service)
        self.ensure_running()
        seconds = [_second(wanted, service, shared=shared) for wanted, service in declared]
        for second in seconds:
            self._control.put(name_of(second.instance), self._program(second))
        all_of_them = definitions.read(self.places) | {each.instance: each for each in seconds}
        definitions.write(self.places, all_of_them)
        holder.ask(self.places.sockets, "reload")

    def forget_next(self, *keys: Key) -> None:
        """Let them exist no more, and close what they alone listened on."""
        defined = definitions.read(self.places)
        instances = [Instance(key, is_next=True) for key in keys]
        gone = {each: defined.pop(each) for each in instances if each in defined}
        if not gone or not self.is_running:
            return
        self._control.down(_patience(gone))
        for instance in gone:
            self._control.remove(name_of(instance))
        definitions.write(self.places, defined)
        holder.ask(self.places.sockets, "reload")

    def _program(self, each: Defined) -> Program:
        service = each.service
        words = [*own.lasting_command(self.layout), "--root", str(self.layout.root), "run"]
        if each.version:
            words += ["--next", "--generation", str(each.generation)]
            words.append(f"{each.app}@{each.version}/{service.name}")
        else:
            words.append(f"{each.app}/{service.name}")
        if service.sockets:
            on_trial = each.version and not each.shared
            path = self.places.trial_sockets if on_trial else self.places.sockets
            words += ["--sockets-from", str(path)]
        is_long = service.kind == "long"
        if is_long:
            words += ["--ready-fd", str(READY_FD)]
        return Program(
            argv=words,
            once=not is_long,
            ready_fd=READY_FD if is_long else None,
            stop_signal=service.stop.signal,
            stop_timeout_s=service.stop.timeout_s,
            log=self.places.log(name_of(each.instance)),
        )

    # What runs

    def observe(self, instances: Collection[Instance]) -> dict[Instance, Seen]:
        """Ask the supervisor, and look at the processes below its starters."""
        found: dict[Instance, Seen] = dict.fromkeys(instances, ABSENT)
        if not self.is_running:
            return found
        defined = definitions.read(self.places)
        off = definitions.read_disabled(self.places)
        names = {name_of(each): each for each in instances if each in defined}
        for name, status in self._control.status(names).items():
            instance = names[name]
            seen = _seen(instance, defined[instance].service, status)
            is_enabled = not instance.is_next and line_of(instance.key) not in off
            found[instance] = replace(seen, enabled=is_enabled)
        return found

    def unshared(self, keys: Collection[Key]) -> Collection[Key]:
        """None: the holder has them."""
        return ()

    def start(self, *instances: Instance) -> None:
        """Open their sockets, start them, and wait until all are ready."""
        found = self._find(instances)
        with _Gathered() as gathered:
            begun = [each for each in found if gathered.tries(self._begin, each)]
            for each in begun:
                gathered.tries(self._await_ready, each)

    def stop(self, *instances: Instance) -> None:
        """Stop them, wait until they have ended, and close their sockets."""
        if not self.is_running:
            return
        defined = definitions.read(self.places)
        found = {each: defined[each] for each in instances if each in defined}
        try:
            self._control.down(_patience(found))
        except AppbError as error:
            raise ServiceFailedError(
                f"{', '.join(map(str, found))} did not stop: {error.what}",
                hint=f"appb logs {next(iter(found)).key}",
            ) from error
        for instance, each in found.items():
            if each.service.sockets and not each.shared:
                path = self.places.trial_sockets if instance.is_next else self.places.sockets
                holder.ask(path, f"close {line_of(instance.key)}")

    def restart(self, *instances: Instance) -> None:
        """Let the supervisor stop and start them; their sockets stay."""
        found = self._find(instances)
        with _Gathered() as gathered:
            begun = [each for each in found if gathered.tries(self._open_for_restart, each)]
            self._control.restart(_patience({each.instance: each for each in begun}))
            for each in begun:
                gathered.tries(self._await_ready, each)

    def _begin(self, each: Defined) -> None:
        status = self._status(each.instance)
        if status.pid is None or status.stopping:
            self._open_sockets(each)
            if status.wanted or status.stopping:
                # Between two attempts, or on its way down: a start of ours counts anew.
                self._control.down(_patience({each.instance: each}))
            self._control.up(name_of(each.instance))

    def _open_for_restart(self, each: Defined) -> None:
        try:
            self._open_sockets(each)
        except ServiceFailedError:
            # A holder that is new itself: who runs has the port, and frees it by being restarted.
            if self._status(each.instance).pid is None:
                raise

    def reload(self, instance: Instance, wanted: Wanted | None = None) -> None:
        """Show it what was rendered, and send its reload signal; its starter passes it on."""
        (found,) = self._find([instance])
        service = found.service
        pid = self._status(instance).pid
        if pid is None or not service.reload:
            why = "it does not run" if pid is None else "it knows no signal for that"
            raise ServiceFailedError(f"{instance} did not reload: {why}")
        if wanted is not None:
            renew(self.layout, processes.service_of(pid), wanted)
        os.kill(pid, signal.Signals[f"SIG{service.reload}"])

    def set_enabled(self, keys: Collection[Key], *, enabled: bool) -> None:
        """Remember which services `appb supervise` does not start."""
        if not keys:
            return
        self.places.make()
        off, lines = definitions.read_disabled(self.places), {line_of(key) for key in keys}
        definitions.write_disabled(self.places, off - lines if enabled else off | lines)

    def run_task(self, wanted: Wanted, task: Task) -> None:
        """Run a task with `appb run`, for which it is one of its generation's services."""
        if os.geteuid() == 0:
            users.ensure(self.layout, wanted.app)
        words = ["--root", str(self.layout.root), "run", "--generation", str(wanted.generation)]
        try:
            process.run(
                [
                    *own.lasting_command(self.layout),
                    *words,
                    f"{wanted.app}@{wanted.version}/{TASK}{task.when}",
                ],
                environment=process.basic_environment(os.environ),
                timeout_s=task.timeout_s,
                title=f"task {task.when} of {wanted.app} {wanted.version}",
            )
        except process.ProgramError as error:
            raise ServiceFailedError(error.what) from error

    def end_tasks(self, apps: Collection[AppName]) -> None:
        """None is left: a task ends with whoever has called it."""

    def call_later(self, argv: Sequence[str], *, after_s: int) -> None:
        """Have the holder run a program; also if it is another holder by then."""
        self.ensure_running()
        task = json.dumps({"at": time.time() + after_s, "argv": list(argv)})
        files.write_durably(self.places.later / files.random_name(), task.encode())
        holder.ask(self.places.sockets, "reload")

    def call_at_boot(self, argv: Sequence[str]) -> None:
        """Have `appb supervise` run a program, if a switch is under way then."""
        self.places.make()
        files.write_durably(self.places.at_boot, json.dumps(list(argv)).encode())

    def log_command(self, keys: Sequence[Key], *, lines: int, follow: bool) -> list[str]:
        """tail with the newest log file of each; it follows a file's successor."""
        files = []
        for key in keys:
            for is_next in (False, True):
                path = self.places.log(name_of(Instance(key, is_next))) / "current"
                if path.exists() or not is_next:
                    files.append(str(path))
        return ["tail", f"--lines={lines}", *(["-F"] if follow else []), "--", *files]

    def _find(self, instances: Collection[Instance]) -> list[Defined]:
        self.ensure_running()
        defined = definitions.read(self.places)
        for instance in instances:
            if instance not in defined:
                raise ServiceFailedError(
                    f"{instance} is not a service of the current generation", hint="appb status"
                )
        return [defined[instance] for instance in instances]

    def _status(self, instance: Instance) -> Status:
        name = name_of(instance)
        return self._control.status([name])[name]

    def _open_sockets(self, each: Defined) -> None:
        if not each.service.sockets:
            return
        path = self.places.trial_sockets if _is_on_trial(each) else self.places.sockets
        try:
            holder.ask(path, f"open {line_of(each.key)}")
        except AppbError as error:
            raise ServiceFailedError(
                f"{each.instance} did not start: {error.what}", hint=f"appb logs {each.key}"
            ) from error

    def _await_ready(self, each: Defined) -> None:
        instance, service = each.instance, each.service
        deadline = time.monotonic() + service.ready_timeout_s
        while True:
            status = self._status(instance)
            if service.kind == "long" and status.pid is not None and status.ready:
                return
            if status.ended is not None:
                if service.kind == "once" and status.ended.code == 0:
                    return
                raise ServiceFailedError(
                    f"{instance} did not start: {_reason(status.ended)}",
                    hint=f"appb logs {instance.key}",
                )
            if time.monotonic() >= deadline:
                raise ServiceFailedError(
                    f"{instance} was not ready in {service.ready_timeout_s} s",
                    hint=f"appb logs {instance.key}",
                )
            time.sleep(_POLL_S)


@dataclass(slots=True)
class _Gathered:
    """Tries all, and raises at its end what went wrong."""

    errors: list[AppbError] = field(default_factory=list)

    def tries(self, act: Callable[[Defined], None], each: Defined) -> bool:
        """Do it; gives whether it went well."""
        try:
            act(each)
        except AppbError as error:
            self.errors.append(error)
            return False
        return True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.errors:
            raise joined(self.errors)


def _second(wanted: Wanted, service: Service, *, shared: bool) -> Defined:
    return Defined(
        app=wanted.app,
        service=service,
        version=wanted.version,
        generation=wanted.generation,
        shared=shared,
    )


def _patience(defined: Definitions) -> Patience:
    return {name_of(instance): _stop_s(each.service) for instance, each in defined.items()}


def _check(service: Service) -> None:
    if service.every:
        calendar.parse(service.every)


def _is_on_trial(found: Defined) -> bool:
    return bool(found.version) and not found.shared


def _stop_s(service: Service) -> float:
    return service.stop.timeout_s + _PATIENCE_S


def _seen(instance: Instance, service: Service, status: Status) -> Seen:
    state = _state(service, status)
    why = ""
    if state is not State.RUNNING and status.ended is not None and not _is_clean(status.ended):
        why = _reason(status.ended)
    if status.too_often:
        why = f"it was started too often; {why}" if why else "it was started too often"
    if status.pid is None:
        return Seen(state=state, since=status.since, why=why)
    pid = processes.service_of(status.pid)
    root = source_of_root(pid, instance.key.app)
    return Seen(
        state=state,
        pid=pid,
        since=status.since,
        why=why,
        version=root.version if root else None,
        generation=root.generation if root else None,
        memory_bytes=processes.memory_bytes(status.pid),
    )


def _state(service: Service, status: Status) -> State:
    if status.pid is not None:
        if status.stopping:
            return State.STOPPING
        return State.RUNNING if status.ready else State.STARTING
    if status.wanted:
        return State.STARTING
    if status.ended is None:
        return State.STOPPED
    if status.too_often or not _is_clean(status.ended):
        return State.FAILED
    return State.DONE if service.kind == "once" else State.STOPPED


def _is_clean(ended: Ended) -> bool:
    return ended.code == 0 or (ended.code is None and ended.signal in _CLEAN)


def _reason(ended: Ended) -> str:
    if ended.code is not None:
        return f"it ended with status {ended.code}"
    if ended.signal is None:
        return "it ended soon after its start"
    return f"it was ended by signal {ended.signal}" if ended.signal else "it was ended by a signal"
