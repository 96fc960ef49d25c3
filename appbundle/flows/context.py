"""What every flow is given: the node, the time, who asks, and whom to tell."""

from dataclasses import dataclass
from typing import Protocol

from appbundle.layout import Layout
from appbundle.store.node import LOCK_TIMEOUT_S


class Report(Protocol):
    """Where a flow says what it is doing; the command line draws it."""

    def step(self, text: str) -> None:
        """Begin something that may take a while."""

    def advance(self, done: int, total: int) -> None:
        """Say how far the step is, in bytes or things."""

    def saves(self, size_bytes: int) -> None:
        """Say that the step fetches things, and how many bytes it need not fetch."""

    def note(self, text: str) -> None:
        """Say something worth knowing that is not the result."""


class Silent:
    """Tells nobody."""

    def step(self, text: str) -> None:
        """Say nothing."""

    def advance(self, done: int, total: int) -> None:
        """Say nothing."""

    def saves(self, size_bytes: int) -> None:
        """Say nothing."""

    def note(self, text: str) -> None:
        """Say nothing."""


_SILENT = Silent()


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """How a switch of services is judged.

    Args:
        revert: Go back by itself if a service does not become healthy.
        confirm_within_s: Go back unless somebody confirms in so many seconds; None for no need.
        accept_loss: Go back even if what was written since a snapshot is lost.
    """

    revert: bool = True
    confirm_within_s: int | None = None
    accept_loss: bool = False


DEFAULT_GATE = Gate()


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What every flow is given.

    Args:
        layout: The node.
        now: Seconds since the epoch.
        by: Who asks: a user's name.
        lock_timeout_s: How long to wait for another appb.
        report: Whom to tell.
        gate: How a switch of services is judged.
    """

    layout: Layout
    now: int
    by: str = ""
    lock_timeout_s: float = LOCK_TIMEOUT_S
    report: Report = _SILENT
    gate: Gate = DEFAULT_GATE

    def waiting(self, holder: str) -> None:
        """Say for whom a change has to wait."""
        self.report.note(f"waiting for: {holder}")
