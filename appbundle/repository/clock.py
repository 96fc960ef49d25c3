"""The latest time that a node has seen: a clock that is set back makes nothing good again."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from appbundle.system import files

_FILE = "latest-time"
_TOLERANCE_S = 3600


def latest(place: Path, now: int, note: Callable[[str], None]) -> int:
    """Give the time by which metadata are judged: now, or the latest that was remembered.

    Args:
        place: Where the repository's state is kept.
        now: Seconds since the epoch.
        note: Told if the clock has gone back by more than summer time does.
    """
    last = seen(place)
    if last > now + _TOLERANCE_S:
        then = datetime.fromtimestamp(last, UTC)
        note(f"this machine's clock is behind {then:%Y-%m-%d %H:%M} UTC, which it has seen already")
    return max(now, last)


def remember(place: Path, now: int) -> None:
    """Remember a time by which everything was good, if it is later and may be written."""
    if now > seen(place) and files.is_writable(place):
        files.write_durably(place / _FILE, f"{now}\n".encode())


def seen(place: Path) -> int:
    """The latest time by which everything was good; 0 for never."""
    try:
        return int((place / _FILE).read_bytes())
    except (FileNotFoundError, ValueError):
        return 0
