"""What a running process really has: read from /proc and its control group, nothing believed.

Sources: proc_pid_status(5), proc_pid_mountinfo(5), proc_pid_limits(5), namespaces(7), cgroups(7).
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

NAMESPACES = ("mnt", "ipc", "net", "user", "uts", "pid")


@dataclass(frozen=True, slots=True, kw_only=True)
class Mounted:
    """One line of a mount table.

    Args:
        source: The path on its file system that is mounted.
        point: Where.
        kind: The file system's type.
        options: Of the mount and of the file system, together.
    """

    source: str
    point: str
    kind: str
    options: frozenset[str]

    @property
    def is_writable(self) -> bool:
        """Whether neither the mount nor its file system is read-only."""
        return "ro" not in self.options


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What was found of a process.

    Args:
        uids: Real, effective, saved, file system.
        gids: The same.
        groups: Supplementary ones.
        no_new_privileges: Whether exec can add nothing.
        seccomp: 0 none, 1 strict, 2 filter.
        capabilities: Effective, permitted, inheritable, bounding, ambient, as bits.
        namespaces: Those that are not this process's own (`net` for `net:[4026…]`).
        mounts: Its whole mount table; of several on one point the last is on top.
        devices: Names below its /dev that are devices.
        open_files: The soft limit.
        limits: What its control groups hold it to: `memory`, `tasks`, `cpu`; missing if nothing
            does.
    """

    uids: tuple[int, ...]
    gids: tuple[int, ...]
    groups: tuple[int, ...]
    no_new_privileges: bool
    seccomp: int
    capabilities: Mapping[str, int]
    namespaces: frozenset[str]
    mounts: tuple[Mounted, ...]
    devices: frozenset[str]
    open_files: int
    limits: Mapping[str, int]

    def mount_at(self, point: str) -> Mounted | None:
        """What is mounted on a point."""
        return next((each for each in reversed(self.mounts) if each.point == point), None)


def read(pid: int) -> Facts:
    """Look at a process.

    Raises:
        OSError: It has ended, or is not ours to see.
    """
    status = _status(pid)
    return Facts(
        uids=_numbers(status["Uid"]),
        gids=_numbers(status["Gid"]),
        groups=_numbers(status["Groups"]),
        no_new_privileges=status["NoNewPrivs"] == "1",
        seccomp=int(status["Seccomp"]),
        capabilities={
            name: int(status[f"Cap{name.capitalize()}"], 16)
            for name in ("eff", "prm", "inh", "bnd", "amb")
        },
        namespaces=frozenset(name for name in NAMESPACES if _is_own(pid, name)),
        mounts=tuple(_mounts(pid)),
        devices=frozenset(_devices(Path(f"/proc/{pid}/root/dev"))),
        open_files=_open_files(pid),
        limits=dict(_limits(pid)),
    )


def _status(pid: int) -> dict[str, str]:
    text = Path(f"/proc/{pid}/status").read_text(errors="replace")
    pairs = (line.partition(":") for line in text.splitlines())
    return {name: value.strip() for name, _, value in pairs}


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(map(int, text.split()))


def _is_own(pid: int, name: str) -> bool:
    return os.readlink(f"/proc/{pid}/ns/{name}") != os.readlink(f"/proc/self/ns/{name}")


def _mounts(pid: int) -> Iterator[Mounted]:
    for line in Path(f"/proc/{pid}/mountinfo").read_text(errors="surrogateescape").splitlines():
        before, _, after = line.partition(" - ")
        fields, rest = before.split(" "), after.split(" ")
        options = {*fields[5].split(","), *(rest[2].split(",") if len(rest) > 2 else ())}
        # A read-only mount of a writable file system is read-only, and the other way round too.
        yield Mounted(source=fields[3], point=fields[4], kind=rest[0], options=frozenset(options))


def _devices(place: Path) -> Iterator[str]:
    for here, _, names in os.walk(place):
        for name in names:
            path = Path(here, name)
            if not path.is_symlink() and (path.is_char_device() or path.is_block_device()):
                yield str(path.relative_to(place))


def _open_files(pid: int) -> int:
    for line in Path(f"/proc/{pid}/limits").read_text().splitlines():
        if line.startswith("Max open files"):
            return int(line.split()[3])
    raise OSError(f"process {pid} says no limit of open files")


def _limits(pid: int) -> Iterator[tuple[str, int]]:
    """The tightest limits of a process's control groups, in bytes, tasks, percent of a core."""
    for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
        number, controllers, path = line.split(":", 2)
        yield from _files_of(number, controllers.split(","), path)


def _files_of(number: str, controllers: list[str], path: str) -> Iterator[tuple[str, int]]:
    if number == "0":
        for base in ("/sys/fs/cgroup", "/sys/fs/cgroup/unified"):
            here = Path(base + path)
            yield from _number("memory", here / "memory.max")
            yield from _number("tasks", here / "pids.max")
            yield from _share("cpu", here / "cpu.max")
        return
    for name, controller, file in (
        ("memory", "memory", "memory.limit_in_bytes"),
        ("tasks", "pids", "pids.max"),
    ):
        if controller in controllers:
            yield from _number(name, Path(f"/sys/fs/cgroup/{controller}{path}/{file}"))
    if "cpu" in controllers:
        here = Path(f"/sys/fs/cgroup/{','.join(controllers)}{path}")
        quota, period = _read(here / "cpu.cfs_quota_us"), _read(here / "cpu.cfs_period_us")
        if quota.isdecimal() and period.isdecimal():
            yield "cpu", 100 * int(quota) // int(period)


def _number(name: str, path: Path) -> Iterator[tuple[str, int]]:
    text = _read(path)
    # cgroup v1 says "no limit" by a number that no machine has.
    if text.isdecimal() and int(text) < 1 << 60:
        yield name, int(text)


def _share(name: str, path: Path) -> Iterator[tuple[str, int]]:
    quota, _, period = _read(path).partition(" ")
    if quota.isdecimal() and period.isdecimal():
        yield name, 100 * int(quota) // int(period)


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
