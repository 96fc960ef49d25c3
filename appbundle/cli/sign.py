"""`appb sign`."""

import click

from appbundle.cli.passphrase import ask
from appbundle.cli.session import Session


@click.command(name="sign")
@click.argument("file", metavar="FILE", type=click.Path(dir_okay=False))
@click.option(
    "--key", metavar="KEY", required=True, help="Private key, or KEY.pub of a key in ssh-agent."
)
@click.pass_obj
def sign_command(session: Session, file: str, key: str) -> None:
    """Check a bundle wholly and add a signature to it.

    Every frame, tar header and content is compared with the manifest first. Only the signature
    area of FILE changes; a signature by the same key is replaced, others stay.
    """
    from appbundle.flows import sign

    signer = sign.open_signer(key, ask)
    done = sign.sign(session.context(), file, signer)
    document = {
        "name": done.statement.name,
        "version": done.statement.version,
        "digest": done.statement.manifest_sha256,
        "fingerprint": done.fingerprint,
        "signatures": done.signatures,
    }
    session.done(document, f"{file} is signed by {done.fingerprint}")
