"""`appb shell`: the bundle's shell, inside a running service."""

import click

from appbundle.cli import complete
from appbundle.cli.session import Session


@click.command(name="shell")
@click.argument("service", metavar="APP[/SERVICE]", shell_complete=complete.anything)
@click.pass_obj
def shell_command(session: Session, *, service: str) -> None:
    """Open a shell inside a running service.

    The shell is the bundle's own; many bundles have none. It sees and may do what the service sees
    and may do. appb ends as the shell ends.
    """
    from appbundle.cli.run import end_as
    from appbundle.flows import enter

    end_as(enter.execute(str(session.root), service, ()))
