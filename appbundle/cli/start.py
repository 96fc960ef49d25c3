"""`appb start`."""

import click

from appbundle.cli.meant import print_done, services_argument
from appbundle.cli.session import Session


@click.command(name="start")
@services_argument
@click.pass_obj
def start_command(session: Session, services: tuple[str, ...]) -> None:
    """Start services, those first that others need, and wait until they are healthy.

    \b
    Examples:
      appb start nova-api
    """
    from appbundle.flows import serving

    print_done(session, "started", serving.start(session.context(), services))
