"""`appb unpack`."""

import click

from appbundle.cli.session import Session


@click.command(name="unpack")
@click.argument("file", metavar="FILE", type=click.Path())
@click.argument("directory", metavar="DIR", type=click.Path())
@click.pass_obj
def unpack_command(session: Session, file: str, directory: str) -> None:
    """Turn a trusted bundle file into a bundle directory, which verifies and installs alike."""
    from appbundle.flows import sign

    done = sign.unpack(session.context(), file, directory)
    document = {"name": done.name, "version": done.version, "directory": directory}
    session.done(document, f"unpacked {done.name} {done.version} into {directory}")
