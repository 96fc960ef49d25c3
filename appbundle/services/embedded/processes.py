"""What is below a starter: its init, the service, and what they hold in memory. proc(5)."""

from __future__ import annotations

from appbundle.system.accepting import family_of

_KB = 1024


def service_of(starter: int) -> int:
    """The service's main process: what the starter's init has started first.

    Returns:
        The deepest of the three that is there already.
    """
    for _ in range(2):
        children = _children(starter)
        if not children:
            break
        # Init adopts orphans too; they come after its own child.
        starter = min(children, key=_started)
    return starter


def memory_bytes(starter: int) -> int | None:
    """What it and all below it hold, shared pages divided among those who share them."""
    sizes = [_proportional(pid) for pid in family_of(starter)]
    known = [size for size in sizes if size is not None]
    return sum(known) if known else None


def _children(pid: int) -> list[int]:
    try:
        with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
            return [int(word) for word in file.read().split()]
    except OSError:
        return []


def _started(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return int(file.read().rpartition(b")")[2].split()[19])
    except OSError:
        return 1 << 62


def _proportional(pid: int) -> int | None:
    try:
        with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as file:
            for line in file:
                if line.startswith("Pss:"):
                    return int(line.split()[1]) * _KB
    except OSError:
        return None
    return None
