"""`appb pin`."""

import click

from appbundle.cli import complete
from appbundle.cli.session import Session
from appbundle.names import parse_ref


@click.command(name="pin")
@click.argument("what", metavar="APP[@VERSION]", shell_complete=complete.anything)
@click.pass_obj
def pin_command(session: Session, what: str) -> None:
    """Keep a version (the current one by default) from gc and remove."""
    from appbundle.flows import remove

    ref = remove.pin(session.context(), parse_ref(what))
    session.done({"name": ref.name, "version": ref.version, "pinned": True}, f"pinned {ref}")
