"""`appb logs`."""

import os

import click

from appbundle.cli import complete
from appbundle.cli.session import Session


@click.command(name="logs")
@click.argument("services", metavar="[APP[/SERVICE]]...", nargs=-1, shell_complete=complete.serving)
@click.option("-n", "--lines", metavar="N", default=50, show_default=True, help="How many lines.")
@click.option("-f", "--follow", is_flag=True, help="Go on with what comes.")
@click.pass_obj
def logs_command(session: Session, services: tuple[str, ...], lines: int, follow: bool) -> None:
    """Show what services have said; those of all apps by default.

    \b
    Examples:
      appb logs nova-api
      appb logs -f nova-api
    """
    from appbundle.flows import serving

    command = serving.log_command(session.context(), services, lines=lines, follow=follow)
    # It becomes the program that shows logs: its pager, its colours, its exit code.
    os.execvp(command[0], command)  # noqa: S606
