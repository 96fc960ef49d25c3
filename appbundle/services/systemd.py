"""systemd as the keeper of services: unit files, and `systemctl` for everything else."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from appbundle.bundle import filling
from appbundle.bundle.service_rules import TASK
from appbundle.bundle.tasks import WHEN, Task
from appbundle.errors import AppbError, ConflictError, ServiceFailedError, UsageError, joined
from appbundle.layout import SECRETS, Layout
from appbundle.names import AppName, escape
from appbundle.services import running, units, users
from appbundle.services.model import ABSENT, Declared, Instance, Key, Seen, State, Wanted
from appbundle.services.running import source_of_root
from appbundle.services.units import Place
from appbundle.system import files, process

UNITS = "usr/local/lib/systemd/system"
"""Where unit files go: below what an administrator puts into /etc/systemd/system."""

_OTHERS = ("etc/systemd/system", "usr/lib/systemd/system", "lib/systemd/system")
"""Where units of the machine are; those in /etc would be taken instead of ours."""
_LATER, _RESUME, _UPGRADE = "appb-later", "appb-resume", "appb-upgrade"
_SYSTEMCTL_TIMEOUT_S = 900.0
_RELOAD_TIMEOUT_S = 120.0
"""systemd ends generators that hang after 90 s, and goes on without them."""
_PROPERTIES = (
    *("Id", "LoadState", "ActiveState", "SubState", "Type", "MainPID", "Result", "ExecMainStatus"),
    *("StateChangeTimestamp", "MemoryCurrent", "UnitFileState"),
)
_UNKNOWN = Seen(state=State.FAILED)
_STATES = {
    "active": State.RUNNING,
    "reloading": State.RUNNING,
    "activating": State.STARTING,
    "deactivating": State.STOPPING,
    "inactive": State.STOPPED,
    "failed": State.FAILED,
}


@dataclass(frozen=True, slots=True)
class Systemd:
    """The service manager of a live node, or (offline) of an image that is prepared."""

    layout: Layout

    @property
    def is_live(self) -> bool:
        """Whether this node's systemd runs now."""
        return self.layout.root == Path("/") and os.path.isdir("/run/systemd/system")

    @property
    def _directory(self) -> Path:
        return self.layout.root / UNITS

    def check(self, wanted: Sequence[Wanted]) -> None:
        """Refuse units whose names this machine has given to others.

        Raises:
            ConflictError: Which, and where the other one is.
        """
        for each in wanted:
            for name in units.names(each.app, each.services):
                for directory in _OTHERS:
                    path = self.layout.root / directory / name
                    # Who masks a unit of ours takes no name away.
                    if os.path.lexists(path) and os.path.realpath(path) != os.devnull:
                        raise _taken(name, path)
                path = self._directory / name
                if path.exists() and not _is_ours(path):
                    raise _taken(name, path)

    def define(self, wanted: Sequence[Wanted]) -> None:
        """Write the unit files of these apps, remove those of others, make users."""
        texts: dict[str, str] = {}
        for each in wanted:
            if each.services:
                user = users.ensure(self.layout, each.app)
                place = self._place(each, user, current=True)
                for service in each.services:
                    texts |= units.render(service, place)
        users.keep_only(self.layout, {each.app for each in wanted if each.services})
        if self._replace(texts):
            self._reload_manager()

    def define_next(self, *declared: Declared, shared: bool) -> None:
        """Write the units of second instances; `forget_next` removes them."""
        texts: dict[str, str] = {}
        for wanted, service in declared:
            place = self._place(wanted, users.ensure(self.layout, wanted.app), current=False)
            texts |= units.render_next(service, place, shared=shared)
        self._write(texts)
        self._reload_manager()

    def forget_next(self, *keys: Key) -> None:
        """Remove the units of second instances."""
        stems = [units.next_name(*key).removesuffix("service") for key in keys]
        found = [path for stem in stems for path in sorted(self._directory.glob(f"{stem}*"))]
        for path in found:
            self._close_trial(path.name)
            path.unlink()
        if found:
            self._reload_manager()

    def _place(self, wanted: Wanted, user: str, *, current: bool) -> Place:
        layout = self.layout
        live = Layout(Path("/"))
        tree = (
            live.app(wanted.app) / "current"
            if current
            else live.version(wanted.app, wanted.version)
        )
        generation = (
            live.current_generation if current else live.generations / str(wanted.generation)
        )
        skeleton = layout.private / "root"
        files.make_directory(skeleton)
        return Place(
            app=wanted.app,
            user=user,
            skeleton=str(live.private / "root"),
            tree=str(tree),
            overlays=(
                *users.show(layout, wanted.app, wanted.version),
                *((f"{generation}/{inner}", target) for inner, target in wanted.overlays),
            ),
            credentials=tuple(
                (name, f"{generation}/{SECRETS}/{wanted.app}/{name}") for name in wanted.secrets
            ),
        )

    def _replace(self, texts: Mapping[str, str]) -> bool:
        """Make our unit files exactly these; gives whether anything changed."""
        self._directory.mkdir(parents=True, exist_ok=True)
        gone = [name for name in self._own_files() if name not in texts]
        covering = self._covering(gone)
        gone = [name for name in gone if not name.startswith(covering)]
        new = {name: text for name, text in texts.items() if not self._has(name, text)}
        # First of all, because there may be no room for it.
        self._write(new)
        for name in gone:
            self._close_trial(name)
            (self._directory / name).unlink()
        if gone:
            files.fsync_directory(self._directory)
        return bool(new or gone)

    def _covering(self, names: Sequence[str]) -> tuple[str, ...]:
        """How the names of units of second instances that run begin.

        Without its unit file systemd would end one in its own way: all processes at once, with
        what they are answering.
        """
        seconds = [name for name in names if name.endswith(f".{units.NEXT}.service")]
        if not seconds or not self.is_live:
            return ()
        shown = self._systemctl("show", "--property=Id,ActiveState", "--", *seconds)
        return tuple(
            values["Id"].removesuffix("service")
            for values in map(_properties, shown.strip().split("\n\n"))
            if values["ActiveState"] not in ("inactive", "failed")
        )

    def _has(self, name: str, text: str) -> bool:
        path = self._directory / name
        return path.exists() and path.read_text() == text

    def _write(self, texts: Mapping[str, str]) -> None:
        """Write unit files, all of them or none.

        Raises:
            NoSpaceError: There is no room for them.
        """
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
            contents = {name: text.encode() for name, text in texts.items()}
            files.write_all_durably(self._directory, contents)
        except OSError as error:
            raise files.translate_os_error(error, f"writing units to {self._directory}") from error

    def _close_trial(self, name: str) -> None:
        """Sockets of a trial that died end with their units; an instance that covers goes on."""
        if f".{units.NEXT}." in name and name.endswith(".socket") and self.is_live:
            self._systemctl("stop", "--", name, tolerant=True)

    def _own_files(self) -> Iterator[str]:
        for path in sorted(self._directory.iterdir()):
            if path.is_file() and not path.is_symlink() and _is_ours(path):
                yield path.name

    def _reload_manager(self) -> None:
        if self.is_live:
            self._systemctl("daemon-reload", timeout_s=_RELOAD_TIMEOUT_S)

    def observe(self, instances: Collection[Instance]) -> dict[Instance, Seen]:
        """Ask systemd about all instances at once."""
        if not instances or not self.is_live:
            return dict.fromkeys(instances, ABSENT)
        names = {_unit(each): each for each in instances}
        shown = self._systemctl(
            "show", "--timestamp=unix", f"--property={','.join(_PROPERTIES)}", "--", *names
        )
        found: dict[Instance, Seen] = dict.fromkeys(instances, ABSENT)
        for paragraph in shown.strip().split("\n\n"):
            values = _properties(paragraph)
            instance = names.get(values.get("Id", ""))
            if instance is not None:
                found[instance] = _seen(instance, values)
        return found

    def unshared(self, keys: Collection[Key]) -> Collection[Key]:
        """Those that were masked while they ran: no unit needed their sockets then."""
        services = {key: self._sockets(units.unit_name(*key)) for key in keys}
        names = [name for sockets in services.values() for name in sockets]
        if not names or not self.is_live:
            return ()
        shown = self._systemctl("show", "--property=Id,ActiveState", "--", *names)
        properties = (_properties(each) for each in shown.strip().split("\n\n"))
        open_ones = {each["Id"] for each in properties if each["ActiveState"] == "active"}
        return [key for key, sockets in services.items() if not open_ones.issuperset(sockets)]

    def start(self, *instances: Instance) -> None:
        """Start them and wait until systemd calls them started."""
        seen = self.observe(instances)
        # If one waits to be started again, a start counts twice against its limit; and it waits.
        failed = [each for each in instances if seen[each].state is State.FAILED]
        self._act(restart=failed, start=[each for each in instances if each not in failed])

    def stop(self, *instances: Instance) -> None:
        """Stop them with their sockets and wait until they have ended."""
        self._act(stop=instances)

    def restart(self, *instances: Instance) -> None:
        """Let systemd stop and start them; their sockets stay."""
        self._act(restart=instances)

    def reload(self, instance: Instance, wanted: Wanted | None = None) -> None:
        """Show it what was rendered, and send it its reload signal."""
        pid = self.observe([instance])[instance].pid
        if pid is None:
            raise ServiceFailedError(f"{instance} did not reload: it does not run")
        if wanted is not None:
            running.renew(self.layout, pid, wanted)
        signal = self._reload_signal(_unit(instance))
        if signal:
            self._systemctl("kill", "--kill-whom=main", f"--signal={signal}", "--", _unit(instance))

    def _reload_signal(self, name: str) -> str:
        lines = (self._directory / name).read_text().splitlines()
        found = (line.removeprefix(units.RELOAD) for line in lines if line.startswith(units.RELOAD))
        return next(found, "")

    def set_enabled(self, keys: Collection[Key], *, enabled: bool) -> None:
        """Make or remove the links that start services at boot."""
        names = [name for key in keys for name in self._startable(key)]
        if not enabled:
            # An interrupted switch may have removed them already, disabled before that.
            names = [name for name in names if (self._directory / name).exists()]
        if not names:
            return
        root = [] if self.is_live else [f"--root={self.layout.root}"]
        self._systemctl(*root, "enable" if enabled else "disable", "--quiet", "--", *names)
        timers = [name for name in names if name.endswith(".timer")]
        if timers and self.is_live:
            # Nobody waits for a boot before a timer counts.
            self._systemctl("start" if enabled else "stop", "--", *timers)

    def log_command(self, keys: Sequence[Key], *, lines: int, follow: bool) -> list[str]:
        """journalctl with the units of these services."""
        chosen = [
            f"--unit={_unit(Instance(key, is_next))}" for key in keys for is_next in (False, True)
        ]
        return ["journalctl", f"--lines={lines}", *(["--follow"] if follow else []), *chosen]

    def run_task(self, wanted: Wanted, task: Task) -> None:
        """Run a task as a unit of its own, which is gone afterwards."""
        place = self._place(wanted, users.ensure(self.layout, wanted.app), current=False)
        key = Key(wanted.app, TASK + task.when)
        instance = Instance(key)
        self.end_tasks([wanted.app])
        ((name, text),) = units.render_task(filling.as_service(task), place).items()
        self._write({name: text})
        try:
            self._reload_manager()
            self._systemctl("start", "--", name, timeout_s=task.timeout_s + 60.0)
        except process.ProgramError as error:
            raise ServiceFailedError(
                f"task {task.when} of {wanted.app} {wanted.version} failed: "
                f"{self._why(instance) or error.what}",
                hint=f"journalctl --unit={name}",
            ) from error
        finally:
            self._systemctl("stop", "--", name, tolerant=True)
            (self._directory / name).unlink(missing_ok=True)
            self._reload_manager()
            self._systemctl("reset-failed", "--", name, tolerant=True)

    def end_tasks(self, apps: Collection[AppName]) -> None:
        """One that somebody has started who was killed may still run."""
        names = [_unit(Instance(Key(app, f"{TASK}{when}"))) for app in apps for when in WHEN]
        self._systemctl("stop", "--", *names, tolerant=True)

    def call_later(self, argv: Sequence[str], *, after_s: int) -> None:
        """A transient timer, with a name of its own: one before may be what calls this."""
        process.run(
            [
                *("systemd-run", "--quiet", "--collect", f"--unit={_LATER}-{files.random_name()}"),
                *(f"--on-active={after_s}", "--timer-property=AccuracySec=1s"),
                *("--property=Restart=on-abnormal", "--property=RestartSec=1s", "--", *argv),
            ],
            environment=process.basic_environment(os.environ),
            timeout_s=60,
        )

    def call_at_boot(self, argv: Sequence[str]) -> None:
        """A unit of appb's own."""
        command = " ".join(map(units.quote_argument, argv))
        lines = (
            *("[Unit]", "Description=finish or revert an interrupted switch (appb)"),
            *("After=multi-user.target", "ConditionPathExists=/apps/.appb/pending.json", ""),
            *("[Service]", "Type=oneshot", f"ExecStart={command}"),
            *("Restart=on-abnormal", "RestartSec=1s", ""),
        )
        wants = self._directory / "default.target.wants"
        path, link = self._directory / f"{_RESUME}.service", wants / f"{_RESUME}.service"
        text = "\n".join(lines)
        if not self._has(path.name, text) or not link.is_symlink():
            wants.mkdir(parents=True, exist_ok=True)
            self._write({path.name: text})
            files.replace_link(link, f"../{path.name}")
            self._reload_manager()

    def schedule(self, argv: Sequence[str], calendar: Sequence[str], *, window_s: int) -> None:
        """Have a program run by itself now and then, until `unschedule`.

        Args:
            calendar: When windows begin, as systemd.time(7) has it.
            window_s: How long they are; it starts at any moment of one, so that not all nodes do
                at once, and not at all in one that the machine was off for.

        Raises:
            UsageError: That is no such time.
        """
        for each in calendar:
            _check_calendar(each)
        command = " ".join(map(units.quote_argument, argv))
        service = (
            *("[Unit]", "Description=upgrade apps from repositories (appb)"),
            *("Wants=network-online.target", "After=network-online.target", ""),
            *("[Service]", "Type=oneshot", f"ExecStart={command}", ""),
        )
        timer = (
            *("[Unit]", "Description=upgrade apps from repositories (appb)", ""),
            *("[Timer]", *(f"OnCalendar={each}" for each in calendar)),
            *(f"RandomizedDelaySec={window_s}", "AccuracySec=1s", ""),
            *("[Install]", "WantedBy=timers.target", ""),
        )
        self._write(
            {f"{_UPGRADE}.service": "\n".join(service), f"{_UPGRADE}.timer": "\n".join(timer)}
        )
        self._reload_manager()
        self._systemctl("enable", "--quiet", "--", f"{_UPGRADE}.timer")
        self._systemctl("restart", "--", f"{_UPGRADE}.timer")

    def unschedule(self) -> bool:
        """End that; whether there was anything to end."""
        paths = [self._directory / f"{_UPGRADE}.{kind}" for kind in ("timer", "service")]
        if not paths[0].exists():
            return False
        # Not the service: it may be what calls this.
        self._systemctl("disable", "--quiet", "--now", "--", paths[0].name)
        for path in paths:
            path.unlink(missing_ok=True)
        self._reload_manager()
        return True

    def _startable(self, key: Key) -> list[str]:
        """What is enabled for a service: its timer, or itself; its sockets come with it."""
        timer = units.unit_name(key.app, key.service, kind="timer")
        if (self._directory / timer).exists():
            return [timer]
        return [units.unit_name(key.app, key.service)]

    def _sockets(self, *services: str) -> list[str]:
        """The units of the sockets that are service units' own."""
        return sorted(
            path.name
            for service in services
            for path in self._directory.glob(f"{service.removesuffix('service')}*socket")
            if _belongs(path, service)
        )

    def _act(self, **instances_by_verb: Sequence[Instance]) -> None:
        errors = [
            error
            for verb, instances in instances_by_verb.items()
            if instances
            for error in self._try(verb, instances)
        ]
        if errors:
            raise joined(errors)

    def _try(self, verb: str, instances: Sequence[Instance]) -> list[AppbError]:
        """Do it to all; gives what went wrong."""
        names = list(map(_unit, instances))
        sockets = self._sockets(*names)
        if verb == "stop":
            # They would close by themselves, but nobody could wait for it.
            names += sockets
        else:
            # More than five starts in ten seconds are refused otherwise, and end the sockets too.
            # Some may not have failed, or not be known yet.
            self._systemctl("reset-failed", "--", *names, *sockets, tolerant=True)
        try:
            self._systemctl(verb, "--", *names)
        except process.ProgramError as error:
            return list(self._failures(verb, instances, error))
        return []

    def _failures(
        self, verb: str, instances: Sequence[Instance], error: process.ProgramError
    ) -> Iterator[AppbError]:
        """Say of each that failed why: as systemd sees it, or else as systemctl says."""
        try:
            seen = self.observe(instances)
        except AppbError:
            seen = dict.fromkeys(instances, _UNKNOWN)
        if verb == "stop":
            instances = [each for each in instances if seen[each].state is not State.ABSENT]
        # What shall be stopped may have gone with its unit, or with a socket that it required.
        lines = [line for line in error.stderr.splitlines() if not line.endswith(" not loaded.")]
        said = {each: _find_line(_unit(each), lines) for each in instances}
        failed = [each for each in instances if said[each] or not _has_come_to(verb, seen[each])]
        for each in failed or (instances if lines else ()):
            yield ServiceFailedError(
                f"{each} did not {verb}: {seen[each].why or said[each] or error.what}",
                hint=f"appb logs {each.key}",
            )

    def _why(self, instance: Instance) -> str:
        try:
            return self.observe([instance])[instance].why
        except AppbError:
            return ""

    def _systemctl(
        self, *words: str, timeout_s: float = _SYSTEMCTL_TIMEOUT_S, tolerant: bool = False
    ) -> str:
        try:
            done = process.run(
                ["systemctl", "--no-ask-password", "--no-pager", *words],
                environment=process.basic_environment(os.environ, SYSTEMD_COLORS="0"),
                timeout_s=timeout_s,
            )
        except process.ProgramError:
            if tolerant:
                return ""
            raise
        return done.stdout.decode(errors="replace")


def _check_calendar(text: str) -> None:
    try:
        process.run(
            ["systemd-analyze", "calendar", "--", text],
            environment=process.basic_environment(os.environ, SYSTEMD_COLORS="0"),
            timeout_s=60,
        )
    except process.ProgramError as error:
        raise UsageError(
            f"{escape(text)} is not a time as systemd.time(7) has it",
            hint="Sat 02:00, or Mon..Fri 03:30, or *-*-01 04:00",
        ) from error


def _is_ours(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(units.MARK)) == units.MARK.encode()


def _taken(name: str, path: Path) -> ConflictError:
    return ConflictError(
        f"this machine has a unit {name} of its own: {path}",
        hint="remove that unit, or give the app another name; additions belong into a drop-in: "
        f"systemctl edit {name}",
    )


def _unit(instance: Instance) -> str:
    key = instance.key
    if instance.is_next:
        return units.next_name(key.app, key.service)
    return units.unit_name(key.app, key.service)


def _find_line(unit: str, lines: Sequence[str]) -> str:
    """The first line that names a unit."""
    name = re.compile(rf"(?<![\w.-]){re.escape(unit)}(?![\w-])")
    return next((line for line in lines if name.search(line)), "")


def _has_come_to(verb: str, now: Seen) -> bool:
    if verb == "stop":
        return now.state in (State.STOPPED, State.DONE, State.FAILED)
    return now.is_up or now.state is State.DONE


def _belongs(path: Path, service: str) -> bool:
    return f"\nService={service}\n" in path.read_text()


def _properties(shown: str) -> dict[str, str]:
    return dict(line.partition("=")[::2] for line in shown.splitlines())


def _seen(instance: Instance, values: Mapping[str, str]) -> Seen:
    state = _STATES.get(values.get("ActiveState", ""), State.STOPPED)
    if values.get("LoadState") == "not-found" and state in (State.STOPPED, State.FAILED):
        # One that runs on without its unit file is there: who has removed that has died since.
        return ABSENT
    if values.get("SubState", "").startswith("auto-restart"):
        # It has failed, and systemd only waits before it tries again.
        state = State.FAILED
    if values.get("Type") == "oneshot" and state is State.STOPPED and values["Result"] == "success":
        state = State.DONE if values.get("StateChangeTimestamp") else State.STOPPED
    pid = int(values.get("MainPID") or 0) or None
    root = source_of_root(pid, instance.key.app) if pid else None
    return Seen(
        state=state,
        pid=pid,
        since=_seconds(values.get("StateChangeTimestamp", "")),
        why=_reason(values) if state is State.FAILED or values.get("Result") != "success" else "",
        version=root.version if root else None,
        generation=root.generation if root else None,
        memory_bytes=_number(values.get("MemoryCurrent", "")),
        enabled=values.get("UnitFileState") in ("enabled", "enabled-runtime"),
        masked=values.get("LoadState") == "masked",
    )


def _reason(values: Mapping[str, str]) -> str:
    result, status = values.get("Result", ""), values.get("ExecMainStatus", "")
    match result:
        case "exit-code":
            return f"it ended with status {escape(status)}"
        case "signal" | "core-dump":
            return f"it was ended by signal {escape(status)}"
        case "timeout":
            return "it took too long"
        case "start-limit-hit":
            return "it was started too often"
        case _:
            return escape(result)


def _seconds(text: str) -> int | None:
    return _number(text.removeprefix("@"))


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and int(text) < 1 << 63 else None
