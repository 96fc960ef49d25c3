"""`appb hold`."""

from datetime import datetime

import click

from appbundle.cli import complete
from appbundle.cli.moment import MOMENT, seconds
from appbundle.cli.session import Session
from appbundle.cli.words import when
from appbundle.errors import UsageError
from appbundle.names import parse_app_name


@click.command(name="hold")
@click.argument("app", shell_complete=complete.apps)
@click.option("--reason", metavar="TEXT", required=True, help="Why; whoever upgrades is told.")
@click.option(
    "--until",
    metavar="TIME",
    type=MOMENT,
    help="It ends by itself then (UTC): 2031-12-31, or 2031-12-31T23:59:59Z.",
)
@click.pass_obj
def hold_command(session: Session, app: str, reason: str, until: datetime | None) -> None:
    """Leave an app as it is when others are upgraded.

    \b
    Examples:
      appb hold nova-api --reason "waits for the database" --until 2031-12-31
    """
    from appbundle.flows import holds

    context, name, end = session.context(), parse_app_name(app), seconds(until)
    if end is not None and end <= context.now:
        raise UsageError(f"{when(end)} is over", hint="appb hold --help")
    holds.hold(context, name, reason=reason, until=end)
    document = {"name": name, "held": True, "reason": reason, "until": end}
    session.done(document, f"{name} is held" + (f" until {when(end)}" if end else ""))
