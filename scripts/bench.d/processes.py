"""What the bench's services have of memory, and what everybody else has because of them."""

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path

import programs
from measure import ChildFailed, family, proc_bytes
from results import Row


def memory_of(pids: Sequence[int], count: int, before: int = 0, *, factor: float = 1) -> Row:
    """What processes have now.

    Args:
        count: How many of them must be services.
        before: What those that are none had at first.
        factor: How many services one of them stands for.

    Raises:
        ChildFailed: They are not so many.
    """
    services = [pid for pid in pids if _is_service(pid)]
    if len(services) != count:
        raise ChildFailed(f"{len(services)} services run, of {count}")
    own, others = _split(pids, services, before)
    return {
        "services_bytes": own * factor,
        "others_bytes": others * factor,
        "each_bytes": (own + others) / count,
    }


def memory_of_confined(first: int, before: int = 0) -> Row:
    """What the processes of a node have now; services are those with a root of their own.

    Args:
        first: The process that all others descend from.
        before: What it and its descendants had at first.
    """
    pids = family(first)
    root = _root(first)
    services = [pid for pid in pids if _root(pid) not in (root, None)]
    own, others = _split(pids, services, before)
    return {"services_bytes": own, "others_bytes": others, "all_bytes": own + others}


def _split(pids: Sequence[int], services: Sequence[int], before: int) -> tuple[int, int]:
    own = pss(services)
    return own, pss(pids) - own - before


def _root(pid: int) -> tuple[int, int] | None:
    """The directory that a process has as its root; None if it has ended."""
    with contextlib.suppress(OSError):
        found = os.stat(f"/proc/{pid}/root/")
        return found.st_dev, found.st_ino
    return None


def families(word: str) -> list[int]:
    """All processes that have a text in their command lines, with their descendants."""
    pids = [int(path.name) for path in Path("/proc").glob("[0-9]*")]
    named = (pid for pid in pids if word in _command_line(pid))
    return sorted({each for pid in named for each in family(pid)})


def pss(pids: Sequence[int]) -> int:
    """The sum of proportional set sizes, in bytes; pages that are shared count once."""
    return sum(proc_bytes(pid, "smaps_rollup", "Pss:") for pid in pids)


def _is_service(pid: int) -> bool:
    """Whether it is one of the servers, and not what started it."""
    program, *words = _command_line(pid).split("\0")
    return program == programs.PYTHON and any(word.endswith("/serve.py") for word in words)


def _command_line(pid: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_text(errors="replace")
    return ""
