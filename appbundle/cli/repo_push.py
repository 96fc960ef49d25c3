"""`appb repo push`: for whoever keeps a repository in a registry."""

import click

from appbundle.cli.session import Session
from appbundle.cli.words import size


@click.command(name="push")
@click.argument("directory", metavar="DIR", type=click.Path(file_okay=False))
@click.argument("url", metavar="oci://HOST/PATH")
@click.option("--all", "everything", is_flag=True, help="Look also after what was pushed before.")
@click.pass_obj
def push(session: Session, directory: str, url: str, everything: bool) -> None:
    """Copy a repository's folder into an OCI registry: what is missing there.

    Nodes use it with the same hash: appb repo add oci://HOST/PATH#sha256=HEX. Credentials are taken
    from docker's config.json and its helpers. DIR stays the master copy: push after each change.
    """
    from appbundle.flows import push as pushing

    done = pushing.push(session.context(), directory, url, everything=everything)
    document = {
        "repository": directory,
        "url": url,
        "files": done.files,
        "size_bytes": done.size_bytes,
        "version": done.version,
    }
    what = f"{done.files} files, {size(done.size_bytes)}" if done.files else "no new files"
    session.done(document, f"pushed {directory} to {url}: {what}")


COMMANDS = (push,)
