"""`appb switch --confirm` and `--resume`: what is under way is ended, or taken back."""

from __future__ import annotations

import sys
from dataclasses import dataclass

from appbundle.errors import AppbError, NotFoundError
from appbundle.flows import keeper, transition
from appbundle.flows.context import Context
from appbundle.layout import Layout
from appbundle.store import generations, node, pending
from appbundle.store.pending import Pending


@dataclass(frozen=True, slots=True, kw_only=True)
class Resumed:
    """What became of what was under way.

    Args:
        outcome: `nothing` was under way; `confirmed`; `finished` (it had been interrupted);
            `waiting` (there is still time to confirm); `reverted`.
        generation: What is current now.
    """

    outcome: str
    generation: int | None


def command(layout: Layout) -> list[str]:
    """The command line of `resume`, for timers and at boot."""
    return [sys.executable, "-I", "-m", "appbundle", f"--root={layout.root}", "switch", "--resume"]


def confirm(context: Context) -> Resumed:
    """Say that what was switched to stays.

    Raises:
        NotFoundError: Nothing waits for that.
    """
    layout = context.layout
    with node.changing(
        layout, purpose="confirm", timeout_s=context.lock_timeout_s, waiting=context.waiting
    ):
        waiting = pending.read(layout)
        if waiting is None or waiting.confirm_until is None:
            raise NotFoundError("nothing waits for a confirmation", hint="appb history")
        pending.clear(layout)
    return Resumed(outcome="confirmed", generation=generations.current_number(layout))


def resume(context: Context) -> Resumed:
    """End what is under way: finish it if it was interrupted, take it back if nobody confirmed."""
    layout = context.layout
    with node.changing(
        layout, purpose="resume", timeout_s=context.lock_timeout_s, waiting=context.waiting
    ):
        waiting, current = pending.read(layout), generations.current(layout)
        if waiting is None or current is None:
            return Resumed(outcome="nothing", generation=current.number if current else None)
        if waiting.restoring and current.number == waiting.before:
            # Its state may be neither the new version's nor the old one's: there is no way but on.
            after = generations.read(layout, waiting.after)
            transition.go(context, current, after)
            return Resumed(outcome="finished", generation=after.number)
        if waiting.confirm_until is None:
            transition.go(context, current, current)
            return Resumed(outcome="finished", generation=current.number)
        left_s = waiting.confirm_until - context.now
        if left_s > 0:
            arm(context, left_s)
            return Resumed(outcome="waiting", generation=current.number)
        return _revert(context, waiting)


def _revert(context: Context, waiting: Pending) -> Resumed:
    layout = context.layout
    current = generations.current(layout)
    assert current is not None
    pending.clear(layout)
    if waiting.before is None or current.number != waiting.after:
        # Somebody has switched elsewhere meanwhile; that was an answer too.
        return Resumed(outcome="nothing", generation=current.number)
    generations.record_outcome(layout, current, "failed: nobody confirmed it in time")
    before = generations.read(layout, waiting.before)
    context.report.note(f"nobody confirmed generation {current.number}; going back")
    transition.go(context, current, before)
    return Resumed(outcome="reverted", generation=before.number)


def arm(context: Context, seconds: int) -> None:
    """See to it that an unconfirmed switch is taken back in so many seconds, boots included."""
    backend = keeper.find(context.layout)
    if backend is None:
        raise AppbError(
            "nobody on this node could take the switch back later",
            hint="--confirm-within needs systemd, or: appb supervise",
        )
    backend.call_at_boot(command(context.layout))
    # A second more, so that the deadline has passed by its own clock.
    backend.call_later(command(context.layout), after_s=seconds + 1)
