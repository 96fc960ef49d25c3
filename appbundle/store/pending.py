"""The transition that is under way: who comes after a crash shall know what was meant."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from appbundle.errors import CorruptError
from appbundle.layout import Layout
from appbundle.system import files


@dataclass(frozen=True, slots=True, kw_only=True)
class Pending:
    """A transition between generations that has begun and is not over.

    Args:
        before: The generation that was current; None if there was none.
        after: The one that shall be.
        running: Services that shall run afterwards, as `APP/SERVICE`, because they ran before.
        confirm_until: Seconds since the epoch: unless somebody confirms by then, it is taken back.
            None if nobody needs to.
        waiting: All of it is done, and only that confirmation is waited for.
        migrating: Apps whose release in `after` changes their state, or has changed it.
        onward: There is no way but on to `after`: state is being put back for it, or has been
            changed for good, or `before` is what was found bad.
    """

    before: int | None
    after: int
    running: tuple[str, ...]
    confirm_until: int | None = None
    waiting: bool = False
    migrating: tuple[str, ...] = ()
    onward: bool = False


def read(layout: Layout) -> Pending | None:
    """What is under way, or None.

    Raises:
        CorruptError: The record is damaged.
    """
    try:
        raw = layout.pending.read_bytes()
    except FileNotFoundError:
        return None
    try:
        values = json.loads(raw)
        lists = {key: tuple(values.get(key, ())) for key in ("running", "migrating")}
        return Pending(**(values | lists))
    except (ValueError, TypeError, KeyError) as error:
        raise CorruptError(
            f"{layout.pending} is damaged", hint=f"remove it, then: appb status; {error}"
        ) from error


def write(layout: Layout, pending: Pending) -> None:
    """Say what is about to happen, durably."""
    files.write_durably(layout.pending, json.dumps(asdict(pending)).encode() + b"\n")


def clear(layout: Layout) -> None:
    """It is over."""
    layout.pending.unlink(missing_ok=True)
    files.fsync_directory(layout.private)
