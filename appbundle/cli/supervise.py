"""`appb supervise`."""

import click

from appbundle.cli.session import Session


@click.command(name="supervise")
@click.pass_obj
def supervise_command(session: Session) -> None:
    """Keep the node's services running until SIGTERM, where systemd does not.

    It starts the enabled services of the current generation in order, and stops them in reverse
    order when it is told to end. It is the entry point of a container, or a line of an init
    script; without --root it is also started by itself when a service is.
    """
    from appbundle.flows import keeper

    keeper.supervise(session.layout)
