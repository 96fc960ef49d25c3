"""`appb restart`."""

import click

from appbundle.cli.meant import print_done, services_argument
from appbundle.cli.session import Session


@click.command(name="restart")
@services_argument
@click.pass_obj
def restart_command(session: Session, services: tuple[str, ...]) -> None:
    """Restart services one after the other, each until it is healthy.

    \b
    Examples:
      appb restart nova-api
    """
    from appbundle.flows import serving

    print_done(session, "restarted", serving.restart(session.context(), services))
