"""Which directories below a place some process still runs from: one look at /proc for all.

A process in a mount namespace of its own shows `/` as its root, and its files' names without the
place in front. Its mount table tells: each line has the device and the path *on that device*.
"""

import os

_LINKS = ("root", "exe", "cwd")
_DELETED = " (deleted)"

Source = tuple[str, str]
"""A device as major:minor, and a path from the root of its file system."""


def paths_in_use(prefix: bytes | str, *, depth: int = 2) -> set[str]:
    """Find what is used of a directory by any process's root, program, directory, map or mount.

    Without privileges, the processes of other users are invisible and not counted.

    Args:
        prefix: The directory.
        depth: So many names below it are told apart: 2 finds `PREFIX/APP/VERSION`.

    Returns:
        Paths that start with `prefix` as given and have `depth` more names (fewer if the use is
        of less than that).
    """
    place = os.fsdecode(prefix).rstrip("/") or "/"
    real = os.path.realpath(place)
    sources = _sources(real)
    below: set[str] = set()
    seen_namespaces: set[str] = set()
    for pid in os.listdir("/proc"):
        if pid.isdecimal():
            below |= _below(_names(pid, real), real)
            below |= _mounted(pid, sources, seen_namespaces)
    cut = {"/".join(path.split("/")[:depth]) for path in below if path}
    return {os.path.join(place, path) for path in cut}


def _sources(real: str) -> dict[Source, str]:
    """Where on which devices the directory's content is, with its place below the directory."""
    covering = (0, ("", ""))
    inner: dict[Source, str] = {}
    for source, point in mounts_of("self"):
        if point == real or real.startswith(point.rstrip("/") + "/"):
            # Of two on the same point the later one is on top.
            if len(point) >= covering[0]:
                rest = real[len(point) :].strip("/")
                covering = (len(point), (source[0], os.path.join(source[1], rest).rstrip("/")))
        elif point.startswith(real.rstrip("/") + "/"):
            inner[source] = point[len(real.rstrip("/")) + 1 :]
    return {covering[1]: "", **inner}


def _mounted(pid: str, sources: dict[Source, str], seen: set[str]) -> set[str]:
    """What a process has mounted of it; once for each mount namespace."""
    try:
        namespace = os.readlink(f"/proc/{pid}/ns/mnt")
        if namespace in seen:
            return set()
        mounts = mounts_of(pid)
    except OSError:
        # It has ended, or is not ours to see.
        return set()
    seen.add(namespace)
    found = set()
    for (device, path), _ in mounts:
        for (own_device, own_path), below in sources.items():
            if device == own_device and path.startswith(own_path + "/"):
                found.add(os.path.join(below, path[len(own_path) + 1 :]))
    return found


def mounts_of(pid: str) -> list[tuple[Source, str]]:
    """Read a mount table: what is mounted, and where. See proc_pid_mountinfo(5)."""
    with open(f"/proc/{pid}/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        lines = [line.split(" ", 5) for line in file]
    return [((f[2], _unescape(f[3])), _unescape(f[4])) for f in lines]


def _unescape(text: str) -> str:
    if "\\" not in text:
        return text
    for code, character in (("040", " "), ("011", "\t"), ("012", "\n"), ("134", "\\")):
        text = text.replace("\\" + code, character)
    return text


def _names(pid: str, real: str) -> list[str]:
    """The paths that a process shows, as this namespace names them."""
    names = []
    for link in _LINKS:
        try:
            names.append(os.readlink(f"/proc/{pid}/{link}"))
        except OSError:
            continue
    try:
        with open(f"/proc/{pid}/maps", "rb") as file:
            maps = file.read()
    except OSError:
        return names
    # Most processes have none, and this scan is all that they cost.
    if os.fsencode(real) in maps:
        fields = (line.split(None, 5) for line in maps.splitlines())
        names += {os.fsdecode(each[5]) for each in fields if len(each) == 6}
    return names


def _below(names: list[str], real: str) -> set[str]:
    start = real.rstrip("/") + "/"
    return {n.removesuffix(_DELETED)[len(start) :] for n in names if n.startswith(start)}
