"""Sizes and times for people."""

import time


def size(count: int) -> str:
    """Bytes for people: `17.1 MB`."""
    value = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"


def when(timestamp: int) -> str:
    """A time for people, in the local zone."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(timestamp))
