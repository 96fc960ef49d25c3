"""`appb switch`."""

import click

from appbundle.cli import complete, shapes
from appbundle.cli.session import Session
from appbundle.errors import UsageError
from appbundle.names import parse_app_name, parse_ref


@click.command(name="switch")
@click.argument("refs", metavar="[APP@VERSION]...", nargs=-1, shell_complete=complete.versions)
@click.option(
    "--previous", is_flag=True, help="Go back to the parent generation, or only with one APP."
)
@click.option("--to", "number", metavar="GENERATION", type=int, help="Go to this generation.")
@click.option("-n", "--dry-run", is_flag=True, help="Say what would change.")
@click.pass_obj
def switch_command(
    session: Session, refs: tuple[str, ...], previous: bool, number: int | None, dry_run: bool
) -> None:
    """Make other versions current, or an earlier generation.

    All apps of the node move with one rename, and no bundle is read. Repeating --previous goes
    further back; with an app's name, only that app goes back, in a new generation.

    \b
    Examples:
      appb switch nova-api@33.0.2
      appb switch --previous
      appb switch --previous nova-api
      appb switch --to 3
    """
    from appbundle.flows import switch

    context = session.context()
    if previous and number is None and len(refs) <= 1:
        if refs:
            name = parse_app_name(refs[0])
            done = switch.switch_app_previous(context, name, dry_run=dry_run)
        else:
            done = switch.switch_previous(context, dry_run=dry_run)
    elif number is not None and not refs and not previous:
        done = switch.switch_to(context, number, dry_run=dry_run)
    elif refs and not previous and number is None:
        parsed = [parse_ref(ref) for ref in refs]
        for ref in parsed:
            if ref.version is None:
                raise UsageError(f"which version of {ref}?", hint=f"appb switch {ref}@VERSION")
        if len({ref.name for ref in parsed}) < len(parsed):
            raise UsageError("an app stands there twice", hint="name each app once")
        done = switch.switch(context, parsed, dry_run=dry_run)
    else:
        raise UsageError(
            "say where to switch: APP@VERSION..., --previous [APP], or --to GENERATION",
            hint="appb switch --help",
        )
    number_now = done.generation.number if done.generation else "none"
    match done.outcome:
        case "planned":
            changes = "".join(f"\n  {change}" for change in done.changes) or "\n  nothing"
            words = f"would change:{changes}"
        case "unchanged":
            words = f"generation {number_now} is current already; nothing to change"
        case _:
            words = f"generation {number_now} is current"
    (session.result if dry_run else session.done)(shapes.switched(done), words)
