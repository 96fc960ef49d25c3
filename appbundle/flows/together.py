"""Several services at the same time, but never too many."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from appbundle.errors import AppbError, joined

AT_ONCE = max(8, 4 * len(os.sched_getaffinity(0)))
"""If more start at a time, each may become so slow that it misses its own deadlines."""

T = TypeVar("T")


def portions(things: Sequence[T]) -> Iterator[Sequence[T]]:
    """Cut into as many as may be under way at the same time."""
    for start in range(0, len(things), AT_ONCE):
        yield things[start : start + AT_ONCE]


def on_each(act: Callable[[T], None], things: Sequence[T]) -> None:
    """Do something with all at the same time, and wait until all have come to their end.

    Raises:
        AppbError: What went wrong, with all for which it did.
    """
    if len(things) == 1:
        act(things[0])
        return
    failed: dict[int, Exception] = {}

    def attempt(position: int) -> None:
        try:
            act(things[position])
        except Exception as error:
            failed[position] = error

    # Daemons: whoever interrupts this waits for none of them.
    threads = [
        threading.Thread(target=attempt, args=(position,), daemon=True)
        for position in range(len(things))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    errors = [failed[position] for position in sorted(failed)]
    deliberate = [error for error in errors if isinstance(error, AppbError)]
    for error in errors:
        if error not in deliberate:
            raise error
    if deliberate:
        raise joined(deliberate)
