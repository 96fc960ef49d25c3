"""`appb pack`."""

import click

from appbundle.cli.session import Session


@click.command(name="pack")
@click.argument("directory", metavar="DIR", type=click.Path(file_okay=False))
@click.argument("file", metavar="FILE", type=click.Path(dir_okay=False))
@click.pass_obj
def pack_command(session: Session, directory: str, file: str) -> None:
    """Turn a bundle directory back into its bundle file, byte for byte, signatures kept."""
    from appbundle.flows import sign

    done = sign.pack(session.context(), directory, file)
    document = {"name": done.name, "version": done.version, "digest": done.manifest_sha256}
    session.done(document | {"file": file}, f"packed {done.name} {done.version} into {file}")
