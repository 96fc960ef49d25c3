"""`appb unhold`."""

import click

from appbundle.cli import complete
from appbundle.cli.session import Session
from appbundle.names import parse_app_name


@click.command(name="unhold")
@click.argument("app", shell_complete=complete.apps)
@click.pass_obj
def unhold_command(session: Session, app: str) -> None:
    """Let upgrades take an app again."""
    from appbundle.flows import holds

    name = parse_app_name(app)
    holds.unhold(session.context(), name)
    session.done({"name": name, "held": False}, f"{name} is held no more")
