"""`appb switch --confirm` and `--resume`: what is under way is ended, or taken back."""

from __future__ import annotations

from dataclasses import dataclass, replace

from appbundle.errors import AppbError, NotFoundError
from appbundle.flows import interrupted, keeper, transition
from appbundle.flows.context import Context
from appbundle.store import generations, node, pending
from appbundle.store.generations import Generation
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


def confirm(context: Context) -> Resumed:
    """Say that what was switched to stays.

    Raises:
        NotFoundError: Nothing waits for that.
    """
    layout = context.layout
    with node.changing(
        layout, purpose="confirm", timeout_s=context.lock_timeout_s, waiting=context.waiting
    ):
        found, current = pending.read(layout), generations.current(layout)
        if found is None or current is None or not _may_be_confirmed(found, current):
            raise NotFoundError("nothing waits for a confirmation", hint="appb history")
        if found.waiting:
            pending.clear(layout)
        else:
            transition.go(context, current, current)
    return Resumed(outcome="confirmed", generation=current.number)


def is_waited_for(context: Context) -> bool:
    """Whether what is current goes back unless somebody says that it stays."""
    found, current = pending.read(context.layout), generations.current(context.layout)
    return bool(found and found.waiting and current and _may_be_confirmed(found, current))


def _may_be_confirmed(found: Pending, current: Generation) -> bool:
    return found.confirm_until is not None and current.number == found.after


def resume(context: Context) -> Resumed:
    """End what is under way: finish it if it was interrupted, take it back if nobody confirmed."""
    layout = context.layout
    with node.changing(
        layout, purpose="resume", timeout_s=context.lock_timeout_s, waiting=context.waiting
    ):
        found, current = pending.read(layout), generations.current(layout)
        if found is None or current is None:
            pending.clear(layout)
            return Resumed(outcome="nothing", generation=current.number if current else None)
        if found.onward and current.number == found.before:
            return _finish(context, found, current, generations.read(layout, found.after))
        if found.waiting and not _may_be_confirmed(found, current):
            # Somebody has switched elsewhere meanwhile; that was an answer too.
            pending.clear(layout)
            return Resumed(outcome="nothing", generation=current.number)
        if _may_be_confirmed(found, current) and _left_s(context, found) <= 0:
            return _revert(context, found, current)
        return _finish(context, found, current, current)


def _left_s(context: Context, found: Pending) -> int:
    return found.confirm_until - context.now if found.confirm_until is not None else 0


def _finish(context: Context, found: Pending, current: Generation, after: Generation) -> Resumed:
    """End what died; whatever was to be confirmed still is."""
    confirm = found.confirm_until is not None and found.after == after.number
    left_s = max(_left_s(context, found), 1) if confirm else None
    if left_s is not None:
        arm(context, left_s)
    if not found.waiting:
        gate = replace(context.gate, confirm_within_s=left_s)
        transition.go(
            replace(context, gate=gate), current, after, onward=after.number != current.number
        )
    outcome = "finished" if left_s is None else "waiting"
    return Resumed(outcome=outcome, generation=after.number)


def _revert(context: Context, found: Pending, current: Generation) -> Resumed:
    assert found.before is not None
    generations.record_outcome(context.layout, current, "failed: nobody confirmed it in time")
    before = generations.read(context.layout, found.before)
    context.report.note(f"nobody confirmed generation {current.number}; going back")
    # Not cleared before: who dies on the way back has not confirmed anything either.
    transition.go(context, current, before, onward=True)
    return Resumed(outcome="reverted", generation=before.number)


def arm(context: Context, seconds: int) -> None:
    """See to it that an unconfirmed switch is taken back in so many seconds, boots included."""
    backend = keeper.find(context.layout)
    if backend is None:
        raise AppbError(
            "nobody on this node could take the switch back later",
            hint="--confirm-within needs systemd, or: appb supervise",
        )
    command = interrupted.resume_command(context.layout)
    backend.call_at_boot(command)
    # A second more, so that the deadline has passed by its own clock.
    backend.call_later(command, after_s=seconds + 1)
