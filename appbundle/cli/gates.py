"""When a switch is taken back: options that several commands have, and what they lead to."""

from typing import TYPE_CHECKING

import click

from appbundle.cli.duration import Duration
from appbundle.cli.session import Session
from appbundle.flows.context import Gate

if TYPE_CHECKING:
    from appbundle.flows.consequences import Switched

no_revert_option = click.option(
    "--no-revert", is_flag=True, help="Stay, even if a service is not healthy."
)
confirm_within_option = click.option(
    "--confirm-within",
    metavar="TIME",
    type=Duration(),
    help="Go back by itself unless confirmed within TIME (60s), boots included.",
)
accept_loss_option = click.option(
    "--accept-loss", is_flag=True, help="Go back even if what was written since is lost."
)


def arm(session: Session, gate: Gate) -> None:
    """See to it that a switch is taken back later, before anything is switched.

    So whoever dies in between leaves nothing that stays by accident.
    """
    if gate.confirm_within_s is not None:
        from appbundle.flows import confirm

        confirm.arm(session.context(), gate.confirm_within_s)


def tell(session: Session, gate: Gate, done: "Switched") -> None:
    """Say what must be done for a switch to stay, if it does not by itself."""
    if gate.confirm_within_s is None or done.outcome == "planned":
        return
    from appbundle.flows import confirm

    if confirm.is_waited_for(session.context()):
        # Else it had been interrupted, and still has the time that was left then.
        when = f"in {gate.confirm_within_s} s" if done.outcome == "switched" else "by itself"
        session.say(f"hint: goes back {when} unless you say: appb switch --confirm")
