"""What the bench's services have of memory, and what everybody else has because of them."""

import contextlib
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
    own = pss(services)
    others = pss(pids) - own - before
    return {
        "services_bytes": own * factor,
        "others_bytes": others * factor,
        "each_bytes": (own + others) / count,
    }


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
