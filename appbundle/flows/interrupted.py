"""What a switch that died has left for whoever comes next, in `pending.json`."""

from __future__ import annotations

from appbundle.bundle.services import Service
from appbundle.errors import ConflictError
from appbundle.flows import configuration
from appbundle.flows.context import Context
from appbundle.layout import Layout
from appbundle.services import own
from appbundle.services.model import Key
from appbundle.store import generations
from appbundle.store.generations import Generation
from appbundle.store.pending import Pending

_TURN_S = 24 * 3600
"""How long whoever takes something back waits for a switch that is under way."""


def resume_command(layout: Layout) -> list[str]:
    """The command line of `switch --resume`, for timers and at boot; it waits for its turn."""
    return [
        *own.lasting_command(layout),
        f"--root={layout.root}",
        *(f"--lock-timeout={_TURN_S}", "switch", "--resume"),
    ]


def services_before(
    context: Context, before: Generation | None, interrupted: Pending | None
) -> dict[Key, Service]:
    """The services that this node had before: those of the generation that really ran."""
    if interrupted is not None:
        return services_of(context.layout, interrupted.before)
    return services_of(context.layout, before.number if before else None)


def services_of(layout: Layout, number: int | None) -> dict[Key, Service]:
    """The services of a generation; none if it is gone, or there was none."""
    if number is None or number not in generations.numbers(layout):
        return {}
    wanted = configuration.wanted(layout, generations.read(layout, number))
    return {Key(w.app, s.name): s for w in wanted for s in w.services}


def check_direction(
    layout: Layout, interrupted: Pending, before: Generation | None, after: Generation
) -> None:
    """Refuse to leave a way on which there is no other.

    Args:
        before: What is current.
        after: Where it shall lead.

    Raises:
        ConflictError: That is another generation, and has other versions.
    """
    is_there = before is not None and before.number == interrupted.before
    if not interrupted.onward or not is_there:
        return
    if interrupted.after not in generations.numbers(layout):
        return
    meant = generations.read(layout, interrupted.after)
    if meant.apps != after.apps:
        raise ConflictError(
            f"a switch to generation {meant.number} was interrupted where there is no way but "
            "on: what it has changed would be lost",
            hint="first: appb switch --resume",
        )
