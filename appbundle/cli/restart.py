"""`appb restart`."""

import click

from appbundle.cli import complete
from appbundle.cli.session import Session


@click.command(name="restart")
@click.argument(
    "services",
    metavar="APP[/SERVICE]...",
    nargs=-1,
    required=True,
    shell_complete=complete.serving,
)
@click.pass_obj
def restart_command(session: Session, services: tuple[str, ...]) -> None:
    """Restart services one after the other, each until it is healthy.

    \b
    Examples:
      appb restart nova-api
    """
    from appbundle.flows import serving

    keys = serving.restart(session.context(), services)
    document = {"services": [{"app": key.app, "service": key.service} for key in keys]}
    session.result(document, f"restarted {', '.join(map(str, keys))}")
