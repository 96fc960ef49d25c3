"""`appb switch`."""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import click

from appbundle.cli import complete, gates, shapes
from appbundle.cli.session import Session
from appbundle.errors import UsageError
from appbundle.flows.context import Gate
from appbundle.names import BundleRef, parse_app_name, parse_ref

if TYPE_CHECKING:
    from appbundle.flows.consequences import Switched


@click.command(name="switch")
@click.argument("refs", metavar="[APP@VERSION]...", nargs=-1, shell_complete=complete.versions)
@click.option(
    "--previous", is_flag=True, help="Go back to the parent generation, or only with one APP."
)
@click.option("--to", "number", metavar="GENERATION", type=int, help="Go to this generation.")
@gates.no_revert_option
@gates.confirm_within_option
@click.option("--confirm", is_flag=True, help="Confirm such a switch.")
@gates.accept_loss_option
@click.option("--resume", is_flag=True, help="End an interrupted or unconfirmed switch.")
@click.option("-n", "--dry-run", is_flag=True, help="Say what would change.")
@click.pass_obj
def switch_command(
    session: Session,
    refs: tuple[str, ...],
    previous: bool,
    number: int | None,
    no_revert: bool,
    confirm_within: int | None,
    confirm: bool,
    accept_loss: bool,
    resume: bool,
    dry_run: bool,
) -> None:
    """Make other versions current, or an earlier generation.

    All apps of the node move with one rename, and no bundle is read. Repeating --previous goes
    further back; with an app's name, only that app goes back, in a new generation.

    Services whose version or configuration differs follow, in order; what somebody stopped stays
    stopped. If one does not become healthy, the node goes back by itself, and the exit code is 30.

    Where a release says that going back from it needs the state of before, that is restored, and
    what was written since is lost: that needs --accept-loss. Where it forbids going back, so it is.

    \b
    Examples:
      appb switch nova-api@33.0.2
      appb switch --previous
      appb switch --previous nova-api
      appb switch --to 3
      appb switch nova-api@34.0.0 --confirm-within 60s
    """
    if confirm or resume:
        if refs or previous or number is not None or (confirm and resume):
            raise UsageError("--confirm and --resume stand alone", hint="appb switch --help")
        _end_pending(session, confirm=confirm)
        return
    act = _chosen(refs, previous=previous, number=number)
    gate = Gate(revert=not no_revert, confirm_within_s=confirm_within, accept_loss=accept_loss)
    if not dry_run:
        gates.arm(session, gate)
    done = act(session.context(gate), dry_run=dry_run)
    gates.tell(session, gate, done)
    (session.result if dry_run else session.done)(shapes.switched(done), _words(done))


def _chosen(
    refs: tuple[str, ...], *, previous: bool, number: int | None
) -> "Callable[..., Switched]":
    """What is asked for: exactly one of the ways to say where to switch."""
    from appbundle.flows import switch

    if previous and number is None and not refs:
        return switch.switch_previous
    if previous and number is None and len(refs) == 1:
        return partial(switch.switch_app_previous, name=parse_app_name(refs[0]))
    if number is not None and not refs and not previous:
        return partial(switch.switch_to, number=number)
    if refs and not previous and number is None:
        return partial(switch.switch, refs=_versions(refs))
    raise UsageError(
        "say where to switch: APP@VERSION..., --previous [APP], or --to GENERATION",
        hint="appb switch --help",
    )


def _versions(refs: tuple[str, ...]) -> list[BundleRef]:
    parsed = [parse_ref(ref) for ref in refs]
    for ref in parsed:
        if ref.version is None:
            raise UsageError(f"which version of {ref}?", hint=f"appb switch {ref}@VERSION")
    if len({ref.name for ref in parsed}) < len(parsed):
        raise UsageError("an app stands there twice", hint="name each app once")
    return parsed


def _words(done: "Switched") -> str:
    number = done.generation.number if done.generation else "none"
    match done.outcome:
        case "planned":
            changes = "".join(f"\n  {line}" for line in done.lines) or "\n  nothing"
            return f"would change:{changes}"
        case "unchanged":
            return f"generation {number} is current already; nothing to change"
        case _:
            return f"generation {number} is current"


def _end_pending(session: Session, *, confirm: bool) -> None:
    from appbundle.flows import confirm as flow

    done = flow.confirm(session.context()) if confirm else flow.resume(session.context())
    words = {
        "nothing": "nothing was under way",
        "confirmed": f"generation {done.generation} stays",
        "finished": f"generation {done.generation} is current, and its services follow it",
        "waiting": f"generation {done.generation} waits for: appb switch --confirm",
        "reverted": f"went back to generation {done.generation}",
    }
    session.done({"outcome": done.outcome, "generation": done.generation}, words[done.outcome])
