"""Running services, whoever has started them: by control group, root and user of processes.

No record is kept: what the kernel says of a process holds after any crash. A service's control
group is named after it, by us or by its systemd unit; where no group could be made, the command
line of the process that started it tells which service it is.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from appbundle.runtime.plan import group_name
from appbundle.system import cgroups, in_use

_RUN = "run"
_PREFIX = group_name("", "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """The main process of a running service.

    Args:
        pid: On the host.
        app: Its app.
        service: Its name; the app's for what `run` in a manifest starts.
        version: The version that is its root.
        is_next: It is a second instance.
    """

    pid: int
    app: str
    service: str
    version: str
    is_next: bool = False


def find(root: str, *, app: str = "") -> list[Process]:
    """Find the main processes of services of a node.

    Args:
        root: The node's root directory.
        app: Only of this one.

    Returns:
        Sorted by app, service and process number.
    """
    apps = _sources(os.path.join(root, "apps"))
    found: dict[tuple[str, str, bool, str], Process] = {}
    for pid in sorted(map(int, filter(str.isdecimal, os.listdir("/proc")))):
        try:
            process = _look(pid, apps, app)
        except OSError:
            # It has ended, or is not ours to see.
            continue
        if process is not None:
            # Of several in one group the first is the oldest.
            found.setdefault((process.app, process.service, process.is_next, _pid_ns(pid)), process)
    return sorted(found.values(), key=lambda each: (each.app, each.service, each.pid))


def _look(pid: int, apps: set[tuple[str, str]], wanted: str) -> Process | None:
    # Threads of the kernel have no root, and most processes the host's.
    mounted = in_use.mounts_of(str(pid))
    version = ""
    for (device, source), point in mounted:
        head, _, tail = source.rpartition("/")
        place, _, app = head.rpartition("/")
        if point == "/" and (device, place) in apps and (not wanted or app == wanted):
            version, name = tail, app
    if not version or os.stat(f"/proc/{pid}").st_uid == 0:
        return None
    inner = _inner_pid(pid)
    if inner == 1 or (inner != pid and _inner_pid(_parent(pid)) != 1):
        # An init of ours, or something that a service has started.
        return None
    service = _by_group(pid, name) or _by_command(pid, name)
    if service is None:
        return None
    return Process(pid=pid, app=name, service=service[0], version=version, is_next=service[1])


def _sources(directory: str) -> set[tuple[str, str]]:
    """Where on which devices the directory is that holds all apps."""
    real = os.path.realpath(directory)
    covering: tuple[int, tuple[str, str]] = (-1, ("", ""))
    for (device, source), point in in_use.mounts_of("self"):
        if real == point or real.startswith(point.rstrip("/") + "/"):
            rest = real[len(point) :].strip("/")
            if len(point) >= covering[0]:
                covering = (len(point), (device, os.path.join(source, rest).rstrip("/")))
    return {covering[1]}


def service_of_group(path: str, app: str) -> tuple[str, bool] | None:
    """Which service of an app a control group is of, by its name; and whether a second instance.

    Args:
        path: Of the group; ours are named as `plan.group_name` says, others as a systemd unit.
        app: The app.
    """
    last = path.rpartition("/")[2].partition("~")[0]
    if last.startswith(_PREFIX):
        stem = last.removeprefix(_PREFIX)
    elif last.endswith(".service"):
        stem = last.removesuffix(".service")
    else:
        return None
    if stem != app and not stem.startswith(f"{app}."):
        return None
    service = stem.removesuffix(".next")
    return service[len(app) + 1 :] or app, service != stem


def _by_group(pid: int, app: str) -> tuple[str, bool] | None:
    for path in cgroups.names_of_process(str(pid)):
        found = service_of_group(path, app)
        if found is not None:
            return found
    return None


def _by_command(pid: int, app: str) -> tuple[str, bool] | None:
    """What a process's init was asked to run; the app's main service if it does not tell."""
    if _inner_pid(pid) == pid:
        return None
    with open(f"/proc/{_parent(pid)}/cmdline", encoding="utf-8", errors="replace") as file:
        words = file.read().split("\0")
    words = words[words.index(_RUN) + 1 :] if _RUN in words else []
    own = words[: words.index("--")] if "--" in words else words
    for word in own:
        whole, _, service = word.partition("/")
        if whole.partition("@")[0] == app:
            return service or app, "--next" in own
    return app, False


def _parent(pid: int) -> int:
    with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
        return int(file.read().rpartition(")")[2].split()[1])


def _inner_pid(pid: int) -> int:
    """A process's number in its own pid namespace."""
    with open(f"/proc/{pid}/status", encoding="utf-8", errors="replace") as file:
        for line in file:
            if line.startswith("NSpid:"):
                return int(line.split()[-1])
    return pid


def _pid_ns(pid: int) -> str:
    try:
        return os.readlink(f"/proc/{pid}/ns/pid")
    except OSError:
        return ""
