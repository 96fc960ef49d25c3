"""`appb search`."""

from typing import TYPE_CHECKING, Any

import click

from appbundle.cli.session import Session, table
from appbundle.cli.words import size

if TYPE_CHECKING:
    from appbundle.flows.repositories import Hit


@click.command(name="search")
@click.argument("word", metavar="[WORD]", default="")
@click.pass_obj
def search_command(session: Session, word: str) -> None:
    """Show apps in repositories whose name or summary has WORD in it; all without.

    \b
    Examples:
      appb search nova
    """
    from appbundle.flows import repositories

    found = repositories.search(session.context(), word)
    document = {"apps": [_document(each) for each in found]}
    if session.as_json or not found:
        session.result(document, "nothing is found")
        return
    rows = [
        (hit.app, newest.version, channel, size(newest.size), hit.repository, hit.entry.summary)
        for hit in found
        for channel, newest in sorted(hit.entry.channels.items())
    ]
    headings = ("app", "version", "channel", "size", "repository", "summary")
    session.result(document, table(headings, rows))


def _document(hit: "Hit") -> dict[str, Any]:
    return {
        "name": hit.app,
        "repository": hit.repository,
        "summary": hit.entry.summary,
        "channels": {
            channel: {"version": each.version, "release": each.release, "size_bytes": each.size}
            for channel, each in hit.entry.channels.items()
        },
    }
