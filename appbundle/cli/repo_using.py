"""`appb repo add`, `list` and `remove`: for nodes."""

from typing import TYPE_CHECKING, Any

import click

from appbundle.cli.session import Session, table
from appbundle.cli.words import when

if TYPE_CHECKING:
    from appbundle.flows.repositories import Known


@click.command(name="add")
@click.argument("address", metavar="URL#sha256=HEX")
@click.argument("mirrors", metavar="[MIRROR]...", nargs=-1)
@click.option("--name", metavar="NAME", help="What to call it here; its host by default.")
@click.pass_obj
def add(session: Session, address: str, mirrors: tuple[str, ...], name: str | None) -> None:
    """Use a repository; HEX is the SHA-256 of its first root, as its publisher says it.

    MIRROR is another address of the same files.
    """
    from appbundle.flows import repositories

    made = repositories.add(session.context(), address, mirrors=mirrors, name=name)
    document = {
        "name": made.name,
        "urls": list(made.urls),
        "root_sha256": made.root_sha256,
    }
    session.done(document, f"{made.name} is added: appb search, appb install APP")


@click.command(name="list")
@click.pass_obj
def list_(session: Session) -> None:
    """Show the repositories of this node."""
    from appbundle.flows import repositories

    found = list(repositories.known(session.context()))
    document = {"repositories": [_document(each) for each in found]}
    if session.as_json or not found:
        session.result(document, "no repository is added")
        return
    rows = [
        (
            each.repository.name,
            each.repository.urls[0],
            "never" if each.refreshed_at is None else when(each.refreshed_at),
            ", ".join(each.apps),
        )
        for each in found
    ]
    session.result(document, table(("name", "address", "refreshed", "apps"), rows))


def _document(known: "Known") -> dict[str, Any]:
    return {
        "name": known.repository.name,
        "urls": list(known.repository.urls),
        "root_sha256": known.repository.root_sha256,
        "refreshed_at": known.refreshed_at,
        "apps": list(known.apps),
    }


@click.command(name="remove")
@click.argument("name", metavar="NAME")
@click.pass_obj
def remove(session: Session, name: str) -> None:
    """Use a repository no longer; what was installed from it stays."""
    from appbundle.flows import repositories

    bound = repositories.remove(session.context(), name)
    words = f"{name} is removed"
    if bound:
        words += f"; still bound to it, until installed with --from: {', '.join(bound)}"
    session.done({"removed": name, "apps": list(bound)}, words)


COMMANDS = (add, list_, remove)
