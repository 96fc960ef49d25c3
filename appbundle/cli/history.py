"""`appb history`."""

import click

from appbundle.cli import shapes
from appbundle.cli.session import Session, table
from appbundle.cli.words import when


@click.command(name="history")
@click.pass_obj
def history_command(session: Session) -> None:
    """Show the node's generations; the current one is marked with *."""
    from appbundle.flows import listing

    current, generations = listing.history(session.layout)
    document = {
        "current": current,
        "generations": [shapes.generation(each) for each in generations],
    }
    if session.as_json or not generations:
        session.result(document, "no generation was made yet")
        return
    rows = [
        (
            f"{'*' if each.number == current else ' '} {each.number}",
            "-" if each.parent is None else str(each.parent),
            when(each.created_at),
            each.by,
            each.outcome,
            each.reason,
        )
        for each in generations
    ]
    headings = ("  number", "parent", "made", "by", "outcome", "reason")
    session.result(document, table(headings, rows))
