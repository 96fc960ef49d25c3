"""`appb start`."""

import click

from appbundle.cli import complete
from appbundle.cli.session import Session


@click.command(name="start")
@click.argument(
    "services",
    metavar="APP[/SERVICE]...",
    nargs=-1,
    required=True,
    shell_complete=complete.serving,
)
@click.pass_obj
def start_command(session: Session, services: tuple[str, ...]) -> None:
    """Start services, those first that others need, and wait until they are healthy.

    \b
    Examples:
      appb start nova-api
    """
    from appbundle.flows import serving

    keys = serving.start(session.context(), services)
    document = {"services": [{"app": key.app, "service": key.service} for key in keys]}
    session.result(document, f"started {', '.join(map(str, keys))}")
