"""Holds: apps that an administrator wants left as they are, with the reason and until when."""

from collections.abc import Mapping

import msgspec

from appbundle.errors import CorruptError
from appbundle.layout import Layout
from appbundle.names import AppName
from appbundle.system import files


class Hold(msgspec.Struct, frozen=True, kw_only=True):
    """Why an app is not upgraded.

    Args:
        reason: One line.
        until: Seconds since the epoch, from when it holds no more; None for ever.
        since: When it began.
        by: Who said so.
    """

    reason: str
    until: int | None
    since: int
    by: str


def read(layout: Layout, *, now: int) -> dict[AppName, Hold]:
    """The holds that have not expired.

    Raises:
        CorruptError: The record is damaged.
    """
    try:
        raw = layout.holds.read_bytes()
    except FileNotFoundError:
        return {}
    try:
        every = msgspec.json.decode(raw, type=dict[str, Hold])
    except msgspec.MsgspecError as error:
        raise CorruptError(
            f"{layout.holds} is damaged: {error}",
            hint=f"remove it, then hold again: {layout.holds}",
        ) from error
    return {
        AppName(name): hold
        for name, hold in every.items()
        if hold.until is None or now < hold.until
    }


def write(layout: Layout, holds: Mapping[AppName, Hold]) -> None:
    """Replace all holds, durably."""
    files.write_durably(layout.holds, msgspec.json.encode(holds, order="sorted") + b"\n")
