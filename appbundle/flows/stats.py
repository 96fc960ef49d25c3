"""What running services hold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from appbundle.errors import NotFoundError
from appbundle.runtime import find, stats
from appbundle.runtime.find import Process
from appbundle.runtime.stats import Resource


@dataclass(frozen=True, slots=True)
class Figures:
    """A running service with its figures."""

    process: Process
    resources: tuple[Resource, ...]


def read(root: str, app: str = "") -> Sequence[Figures]:
    """Read the figures of every running service of a node, or of one app.

    Raises:
        NotFoundError: Nothing of the app runs.
    """
    found = []
    for process in find.find(root, app=app):
        try:
            found.append(Figures(process, stats.read(process)))
        except OSError:
            # It has ended meanwhile.
            continue
    if app and not found:
        raise NotFoundError(f"no service of {app} runs", hint=f"appb run {app}")
    return found
