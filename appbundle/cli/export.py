"""`appb export`."""

import click

from appbundle.cli import complete
from appbundle.cli.session import Session
from appbundle.names import parse_ref


@click.command(name="export")
@click.argument(
    "what", metavar="[GENERATION|APP[@VERSION]...]", nargs=-1, shell_complete=complete.versions
)
@click.argument("directory", metavar="DIR", type=click.Path(file_okay=False))
@click.pass_obj
def export_command(session: Session, what: tuple[str, ...], directory: str) -> None:
    """Write bundles of this node into a directory, for nodes without a network.

    By default these are the bundles of the current generation. Those from a repository come in a
    folder of its name, with what this node last trusted of its metadata: a small repository, which
    a node verifies as it would the whole one. Others are loose files, byte for byte as installed.
    What is there already is not written again.

    \b
    Examples:
      appb export stick
      appb export 2 stick
      appb export nova-api keystone@30.0.0 stick
    """
    from appbundle.flows import export

    if len(what) == 1 and what[0].isdecimal():
        found = export.export_generation(session.context(), directory, int(what[0]))
    elif what:
        found = export.export(session.context(), directory, [parse_ref(each) for each in what])
    else:
        found = export.export_generation(session.context(), directory)
    document = [
        {
            "name": each.ref.name,
            "version": each.ref.version,
            "path": each.path,
            "repository": each.repository or None,
        }
        for each in found
    ]
    words = "\n".join(f"{each.ref}: {each.path}" for each in found)
    session.done({"directory": directory, "bundles": document}, words or "nothing to export")
