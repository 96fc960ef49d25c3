"""`appb stop`."""

import click

from appbundle.cli.meant import print_done, services_argument
from appbundle.cli.session import Session


@click.command(name="stop")
@services_argument
@click.pass_obj
def stop_command(session: Session, services: tuple[str, ...]) -> None:
    """Stop services; they stay stopped through upgrades until they are started again.

    \b
    Examples:
      appb stop nova-api
    """
    from appbundle.flows import serving

    print_done(session, "stopped", serving.stop(session.context(), services))
