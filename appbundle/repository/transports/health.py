"""Which mirror was good last: a dead one is not waited for by every command.

It is forgotten after a day, so that one which is only no longer updated is not preferred for ever.
"""

from pathlib import Path

from appbundle.repository.transports.mirrors import Mirrors
from appbundle.system import files

_FILE = "good-mirror"
_FORGOTTEN_S = 86_400


def prefer(place: Path, mirrors: Mirrors, *, now: int) -> None:
    """Begin with the mirror that was good last, instead of the administrator's first."""
    when, name = _remembered(place)
    if 0 <= now - when < _FORGOTTEN_S:
        mirrors.prefer(name)


def remember(place: Path, mirrors: Mirrors, *, now: int) -> None:
    """Remember the mirror that is good now, if there is a choice and it may be written."""
    if len(mirrors.in_order()) < 2 or not files.is_writable(place):
        return
    when, name = _remembered(place)
    if name != mirrors.name or not 0 <= now - when < _FORGOTTEN_S:
        files.write_durably(place / _FILE, f"{now} {mirrors.name}\n".encode())


def _remembered(place: Path) -> tuple[int, str]:
    try:
        when, _, name = (place / _FILE).read_text().strip().partition(" ")
        return int(when), name
    except (FileNotFoundError, ValueError):
        return 0, ""
