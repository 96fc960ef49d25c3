"""What running services hold of each resource, the most they ever held, their limits, failures.

The four columns of OpenVZ's user_beancounters, from the files of control groups and of processes.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from appbundle.runtime.find import Process, service_of_group
from appbundle.system import cgroups
from appbundle.system.cgroups import Group

_US, _NS = 1_000_000, 1_000_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource:
    """One resource of one service; None is what this kernel does not say, or no limit.

    Args:
        name: `memory_bytes`, `tasks`, `cpu_seconds`, `open_files`.
        held: Now; `open_files` is that of the process with the most.
        maximum: Ever since the service was started.
        limit: Of `cpu_seconds`: in a second.
        failures: How often it was refused for the limit, or (`cpu_seconds`) had to wait.
    """

    name: str
    held: float | None = None
    maximum: float | None = None
    limit: float | None = None
    failures: int | None = None


def read(process: Process) -> tuple[Resource, ...]:
    """Read the figures of a service.

    Raises:
        OSError: It has ended.
    """
    group = cgroups.of_process(process.pid).keep(
        lambda place: service_of_group(place, process.app) is not None
    )
    return (_memory(group), _tasks(group), _cpu(group), _open_files(process.pid, group))


def _memory(group: Group) -> Resource:
    place = group.directories.get("memory")
    if place is None:
        return Resource(name="memory_bytes")
    if group.is_v2["memory"]:
        return Resource(
            name="memory_bytes",
            held=cgroups.read(place, "memory.current"),
            maximum=cgroups.read(place, "memory.peak"),
            limit=cgroups.read(place, "memory.max"),
            failures=cgroups.read(place, "memory.events", "max"),
        )
    return Resource(
        name="memory_bytes",
        held=cgroups.read(place, "memory.usage_in_bytes"),
        maximum=cgroups.read(place, "memory.max_usage_in_bytes"),
        limit=cgroups.read(place, "memory.limit_in_bytes"),
        failures=cgroups.read(place, "memory.failcnt"),
    )


def _tasks(group: Group) -> Resource:
    place = group.directories.get("pids")
    if place is None:
        return Resource(name="tasks")
    return Resource(
        name="tasks",
        held=cgroups.read(place, "pids.current"),
        maximum=cgroups.read(place, "pids.peak"),
        limit=cgroups.read(place, "pids.max"),
        failures=cgroups.read(place, "pids.events", "max"),
    )


def _cpu(group: Group) -> Resource:
    name = "cpu_seconds"
    place = group.directories.get("cpu")
    if place is None:
        return Resource(name=name)
    is_v2 = group.is_v2["cpu"]
    accounting = place if is_v2 else group.directories.get("cpuacct")
    used = None
    if accounting is not None:
        file, key, unit = ("cpu.stat", "usage_usec", _US) if is_v2 else ("cpuacct.usage", "", _NS)
        ticks = cgroups.read(accounting, file, key)
        used = None if ticks is None else ticks / unit
    percent = cgroups.cpu_limit_percent(place, is_v2=is_v2)
    return Resource(
        name=name,
        held=used,
        maximum=used,
        limit=None if percent is None else percent / 100,
        failures=cgroups.read(place, "cpu.stat", "nr_throttled"),
    )


def _open_files(pid: int, group: Group) -> Resource:
    counts = []
    for each in group.processes() or [pid]:
        try:
            counts.append(len(os.listdir(f"/proc/{each}/fd")))
        except OSError:
            # It has ended, or is not ours to see.
            continue
    with open(f"/proc/{pid}/limits", encoding="utf-8") as file:
        words = next(line for line in file if line.startswith("Max open files")).split()
    return Resource(
        name="open_files",
        held=max(counts, default=None),
        limit=int(words[3]) if words[3].isdigit() else None,
    )
