"""`appb unpin`."""

import click

from appbundle.cli import complete
from appbundle.cli.session import Session
from appbundle.names import parse_ref


@click.command(name="unpin")
@click.argument("what", metavar="APP[@VERSION]", shell_complete=complete.pinned)
@click.pass_obj
def unpin_command(session: Session, what: str) -> None:
    """Let a pinned version (the current one by default) go again."""
    from appbundle.flows import remove

    ref = remove.unpin(session.context(), parse_ref(what))
    session.done({"name": ref.name, "version": ref.version, "pinned": False}, f"unpinned {ref}")
