"""What time does to a repository: metadata expire, and nobody is led to old files any more."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path

import msgspec

from appbundle.repository import catalog
from appbundle.repository.expiry import SOON, at
from appbundle.repository.publishing.roles import Roles

_GRACE_S = 86_400
"""A reader that began before a change still finds the files of the old state so long after it."""


class _Signed(msgspec.Struct, frozen=True):
    expires: datetime


class _Dated(msgspec.Struct, frozen=True):
    """As much of metadata as says how long they are valid."""

    signed: _Signed


def expiring(roles: Roles, now: int) -> dict[str, datetime]:
    """Find what only people can renew and what ends soon, or has ended, with the time."""
    names = [name for name in roles.delegated_names() if name != catalog.ROLE]
    found = {"root": roles.root.signed.expires, "targets": roles.targets.signed.expires}
    for name in names:
        if version := roles.version(name):
            raw = roles.folder.role(name, version).read_bytes()
            found[name] = msgspec.json.decode(raw, type=_Dated).signed.expires
    return {name: end for name, end in found.items() if end - at(now) < SOON}


def collect(roles: Roles, now: int) -> int:
    """Remove metadata and catalogs that were replaced more than a day ago; gives how many."""
    removed = 0
    for path in _superseded(roles, now):
        path.unlink()
        removed += 1
    return removed


def _superseded(roles: Roles, now: int) -> Iterator[Path]:
    versions: dict[str, dict[int, Path]] = defaultdict(dict)
    for path in roles.folder.metadata.iterdir():
        number, _, name = path.stem.partition(".")
        # Readers follow the roots from the first one to the last.
        if number.isdecimal() and name != "root":
            versions[name][int(number)] = path
    for name, paths in versions.items():
        current = roles.snapshot.signed.version if name == "snapshot" else roles.version(name)
        yield from _replaced((paths[n] for n in sorted(paths) if n <= current), now)
    catalogs = (roles.folder.targets / catalog.ROLE).iterdir()
    yield from _replaced(sorted(catalogs, key=lambda path: path.stat().st_mtime_ns), now)


def _replaced(paths: Iterable[Path], now: int) -> Iterator[Path]:
    """Of files in the order of their making, those whose successor is old enough."""
    before: Path | None = None
    for path in paths:
        if before is not None and path.stat().st_mtime < now - _GRACE_S:
            yield before
        before = path
