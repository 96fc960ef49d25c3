"""A switch in an image below `--root`: what its systemd needs to start the services at boot.

Nothing runs there now, so nothing is started, asked for its health or reverted, and no task is run.
"""

from __future__ import annotations

from collections.abc import Collection

from appbundle.errors import AppbError, ConflictError
from appbundle.flows import configuration
from appbundle.flows.context import Context
from appbundle.services.model import Key
from appbundle.services.systemd import Systemd
from appbundle.store import generations, pending
from appbundle.store.generations import Generation
from appbundle.store.pending import Pending


def prepare(
    context: Context,
    systemd: Systemd,
    before: Generation | None,
    after: Generation,
    *,
    had: Collection[Key],
    has_tasks: bool,
) -> None:
    """Make a generation of an image current, with units, users and what is started at boot.

    Args:
        before: What is current.
        after: Complete and numbered.
        had: Services that the image had before: whether these are enabled is left as it is.
        has_tasks: The switch would have to run tasks.

    Raises:
        ConflictError: It has tasks, its units are somebody else's, or a live switch is under way.
    """
    layout = context.layout
    wanted = configuration.wanted(layout, after)
    services = [Key(each.app, service.name) for each in wanted for service in each.services]
    began = pending.read(layout)
    try:
        _check(began, has_tasks=has_tasks)
        systemd.check(wanted)
    except AppbError as error:
        if before is None or before.number != after.number:
            generations.record_outcome(layout, after, f"failed: {error.what.splitlines()[0]}")
        raise
    number = before.number if before else None
    # Whoever comes after a death here must know which services are new.
    pending.write(layout, began or Pending(before=number, after=after.number, running=()))
    generations.activate(layout, after.number)
    systemd.set_enabled([key for key in had if key not in services], enabled=False)
    systemd.define(wanted)
    systemd.set_enabled([key for key in services if key not in had], enabled=True)
    pending.clear(layout)


def _check(began: Pending | None, *, has_tasks: bool) -> None:
    if began is not None and (began.running or began.onward or began.confirm_until is not None):
        raise ConflictError(
            "a switch of this node is under way, which it ends when it boots",
            hint="boot it, or on the node itself: appb switch --resume",
        )
    if has_tasks:
        raise ConflictError(
            "the switch has to run tasks, which need the node itself: this is only its image",
            hint="appb install --no-switch; then, when it has booted: appb switch APP@VERSION",
        )
