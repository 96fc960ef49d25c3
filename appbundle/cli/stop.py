"""`appb stop`."""

import click

from appbundle.cli import complete
from appbundle.cli.session import Session


@click.command(name="stop")
@click.argument(
    "services",
    metavar="APP[/SERVICE]...",
    nargs=-1,
    required=True,
    shell_complete=complete.serving,
)
@click.pass_obj
def stop_command(session: Session, services: tuple[str, ...]) -> None:
    """Stop services; they stay stopped through upgrades until they are started again.

    \b
    Examples:
      appb stop nova-api
    """
    from appbundle.flows import serving

    keys = serving.stop(session.context(), services)
    document = {"services": [{"app": key.app, "service": key.service} for key in keys]}
    session.result(document, f"stopped {', '.join(map(str, keys))}")
