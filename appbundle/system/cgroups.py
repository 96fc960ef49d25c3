"""Control groups: make one with limits, put processes into it, read what it holds, remove it.

Version 2 and version 1, also beside each other: each controller is where its mount says. See
cgroups(7), Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/.
"""

from __future__ import annotations

import contextlib
import os
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

CONTROLLERS = ("memory", "pids", "cpu", "cpuacct")
"""Those that limits need; version 2 has no cpuacct."""
PARENT = "appb"
"""What root makes at the top of version 2, below which groups are made."""

_PERIOD_US = 100_000
_REMOVAL_ATTEMPTS, _REMOVAL_WAIT_S = 50, 0.004
_UNLIMITED = 1 << 60
"""Version 1 writes a number for no limit: the largest multiple of a page."""


class Group:
    """One control group, in one directory of version 2 or several of version 1.

    Args:
        directories: By controller.
    """

    def __init__(self, directories: dict[str, str]) -> None:
        self.directories = directories
        self.is_v2 = {
            each: os.path.exists(f"{path}/cgroup.controllers") for each, path in directories.items()
        }

    @property
    def places(self) -> list[str]:
        """Each directory once."""
        return list(dict.fromkeys(self.directories.values()))

    def limit(self, *, memory_bytes: int, tasks: int, cpu_percent: int) -> set[str]:
        """Set limits; 0 is none.

        Returns:
            The controllers whose limit could not be set.
        """
        failed = set()
        quota = cpu_percent * _PERIOD_US // 100
        for controller, value, v1, v2 in (
            ("memory", memory_bytes, ("memory.limit_in_bytes",), "memory.max"),
            ("pids", tasks, ("pids.max",), "pids.max"),
            ("cpu", quota, ("cpu.cfs_quota_us",), "cpu.max"),
        ):
            if not value:
                continue
            place = self.directories.get(controller, "")
            name = v2 if self.is_v2.get(controller) else v1[0]
            text = f"{value} {_PERIOD_US}" if name == "cpu.max" else str(value)
            if not place or not _write(f"{place}/{name}", text):
                failed.add(controller)
        if memory_bytes and "memory" in self.directories:
            # No swap beyond it; missing where swap is not counted.
            is_v2, place = self.is_v2["memory"], self.directories["memory"]
            name = "memory.swap.max" if is_v2 else "memory.memsw.limit_in_bytes"
            _write(f"{place}/{name}", "0" if is_v2 else str(memory_bytes))
        return failed

    def open(self) -> list[int]:
        """Descriptors through which a process can join with `join`, whatever it sees by then.

        Of a group that somebody else has made, only what the caller may write to.
        """
        flags = os.O_WRONLY | os.O_CLOEXEC
        found: list[tuple[str, int]] = []
        for controller, place in self.directories.items():
            # A thread that moves itself waits for no other one; with cgroup.procs, which version 2
            # demands, the kernel waits until every processor has passed a quiet state.
            name = "cgroup.procs" if self.is_v2[controller] else "tasks"
            path = f"{place}/{name}"
            if place not in [done for done, _ in found] and os.access(path, os.W_OK):
                found.append((place, os.open(path, flags)))
        return [fd for _, fd in found]

    def keep(self, is_wanted: Callable[[str], bool]) -> Group:
        """The same group, on those hierarchies only where its path is wanted."""
        return Group({each: path for each, path in self.directories.items() if is_wanted(path)})

    def processes(self) -> list[int]:
        """Who is in it."""
        for place in self.places:
            return [int(word) for word in _read(f"{place}/cgroup.procs").split()]
        return []

    def remove(self) -> None:
        """End what is in it, and remove it; left if something stays."""
        for place in self.places:
            _write(f"{place}/cgroup.kill", "1")
        for place in self.places:
            for attempt in range(_REMOVAL_ATTEMPTS):
                try:
                    os.rmdir(place)
                except FileNotFoundError:
                    break
                except OSError:
                    # The kernel has not yet forgotten the last process.
                    if attempt:
                        time.sleep(_REMOVAL_WAIT_S)
                    continue
                break


def join(fds: list[int]) -> None:
    """Move the calling process, which has one thread, into a group that was opened."""
    for fd in fds:
        os.write(fd, b"0")
        os.close(fd)


def make(name: str) -> Group:
    """Make a group below the caller's own (version 1), or where the caller may (version 2).

    Args:
        name: A plain name, which the process's number is added to.

    Returns:
        A group with the controllers that could be had; maybe none.
    """
    directories = {}
    made: dict[str, str] = {}
    for controller, parent in parents().items():
        if parent not in made:
            made[parent] = _make_below(parent, name)
        if made[parent]:
            directories[controller] = made[parent]
    return Group(directories)


def of_process(pid: int) -> Group:
    """The group that a process is in.

    Raises:
        OSError: The process has ended.
    """
    return Group({each: own for each, (own, _, _) in _places(str(pid)).items()})


def all_of_process(pid: int) -> Group:
    """The same, also on hierarchies without a controller that limits need, as systemd's own.

    Raises:
        OSError: The process has ended.
    """
    places = _places(str(pid), everything=True)
    return Group({each: own for each, (own, _, _) in places.items()})


def names_of_process(pid: str) -> list[str]:
    """The paths of all groups that a process is in, on any hierarchy."""
    with open(f"/proc/{pid}/cgroup", encoding="utf-8", errors="surrogateescape") as file:
        return [line.rstrip("\n").split(":", 2)[2] for line in file]


def parents() -> dict[str, str]:
    """Where a group of the caller's can be made, by controller."""
    found = {}
    for controller, (own, top, is_v2) in _places("self").items():
        for parent in _v2_parents(own, top) if is_v2 else (own,):
            if os.access(parent, os.W_OK) and (not is_v2 or _hands_down(parent, controller)):
                found[controller] = parent
                break
    return found


def _v2_parents(own: str, top: str) -> list[str]:
    # A group with processes hands no controller down, so a sibling of the own one is the nearest.
    near = [os.path.dirname(own)] if own != top else []
    if os.geteuid() != 0:
        return near
    parent = f"{top}/{PARENT}"
    for place in (top, parent):
        if not os.path.isdir(place):
            try:
                os.mkdir(place)
            except OSError:
                return near
        for controller in ("memory", "pids", "cpu"):
            if not _hands_down(place, controller):
                _write(f"{place}/cgroup.subtree_control", f"+{controller}")
    return [parent, *near]


def _hands_down(place: str, controller: str) -> bool:
    return controller in _read(f"{place}/cgroup.subtree_control").split()


def _make_below(parent: str, name: str) -> str:
    _remove_left(parent, name)
    path = f"{parent}/{name}~{os.getpid()}"
    try:
        os.mkdir(path)
    except FileExistsError:
        # Of another one with our number, who is gone.
        try:
            os.rmdir(path)
            os.mkdir(path)
        except OSError:
            return ""
    except OSError:
        return ""
    return path


def _remove_left(parent: str, name: str) -> None:
    """Remove groups of starts that were killed, unless somebody is in them."""
    try:
        found = os.listdir(parent)
    except OSError:
        return
    for each in found:
        start, _, pid = each.rpartition("~")
        # Who lives may be about to enter.
        if start == name and pid.isdecimal() and not os.path.exists(f"/proc/{pid}"):
            with contextlib.suppress(OSError):
                os.rmdir(f"{parent}/{each}")


def _places(pid: str, *, everything: bool = False) -> dict[str, tuple[str, str, bool]]:
    """By controller: a process's group, the hierarchy's top, and whether it is of version 2."""
    own = {}
    with open(f"/proc/{pid}/cgroup", encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            number, names, path = line.rstrip("\n").split(":", 2)
            for name in names.split(",") if number != "0" else ("",):
                own[name] = path
    found: dict[str, tuple[str, str, bool]] = {}
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            head, _, tail = line.rstrip("\n").partition(" - ")
            if not tail.startswith("cgroup"):
                continue
            root, top = head.split(" ")[3:5]
            is_v2 = tail.startswith("cgroup2 ")
            present = _controllers(top, tail, is_v2=is_v2)
            for name in present if everything else set(CONTROLLERS).intersection(present):
                group = own.get("" if is_v2 else name)
                if group is not None:
                    below = group.removeprefix(root.rstrip("/")).strip("/")
                    found[name] = (f"{top}/{below}".rstrip("/"), top, is_v2)
    return found


def _controllers(top: str, tail: str, *, is_v2: bool) -> list[str]:
    if is_v2:
        return ["", *_read(f"{top}/cgroup.controllers").split()]
    return tail.rpartition(" ")[2].split(",")


def read(place: str, name: str, key: str = "") -> int | None:
    """Read a number of a group.

    Args:
        place: Its directory.
        name: The file.
        key: For a file of `KEY NUMBER` lines: which.

    Returns:
        None for no such file, no such key, or no limit.
    """
    text = _read(f"{place}/{name}")
    if key:
        for line in text.splitlines():
            found, _, text = line.partition(" ")
            if found == key:
                break
        else:
            return None
    word = text.split()[0] if text.split() else ""
    if not word.lstrip("-").isdigit() or int(word) < 0 or int(word) >= _UNLIMITED:
        return None
    return int(word)


def cpu_limit_percent(place: str, *, is_v2: bool) -> int | None:
    """The limit of processor time, in hundredths of one processor."""
    if is_v2:
        quota, _, period = _read(f"{place}/cpu.max").partition(" ")
        words = (quota, period.strip())
    else:
        words = (
            _read(f"{place}/cpu.cfs_quota_us").strip(),
            _read(f"{place}/cpu.cfs_period_us").strip(),
        )
    if not all(word.isdigit() for word in words):
        return None
    return int(words[0]) * 100 // int(words[1])


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except OSError:
        return ""


def _write(path: str, text: str) -> bool:
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        os.write(fd, text.encode())
    except OSError:
        return False
    finally:
        os.close(fd)
    return True
