"""`appb key`."""

import getpass
import socket

import click

from appbundle.cli.passphrase import ask_new
from appbundle.cli.session import Session


@click.group(name="key")
def key_command() -> None:
    """Make and show signing keys: OpenSSH's own Ed25519 files.

    `ssh-keygen -t ed25519` makes the same, and ssh-agent can hold them.
    """


@key_command.command(name="new")
@click.argument("file", metavar="FILE", type=click.Path(dir_okay=False))
@click.option("--comment", metavar="TEXT", help="Who this is; user@host by default.")
@click.option("--no-passphrase", is_flag=True, help="Leave the private key unencrypted.")
@click.pass_obj
def new(session: Session, file: str, comment: str | None, no_passphrase: bool) -> None:
    """Make a key pair: FILE, to keep secret, and FILE.pub, to give away."""
    from appbundle.flows import sign

    passphrase = "" if no_passphrase else ask_new()
    public = sign.new_key(
        file,
        comment=comment or f"{getpass.getuser()}@{socket.gethostname()}",
        passphrase=passphrase,
    )
    session.done(
        {"file": file, "public_file": f"{file}.pub", "fingerprint": public.fingerprint},
        f"{public.fingerprint} is in {file} (keep it secret) and {file}.pub (give it away)",
    )


@key_command.command(name="show")
@click.argument("file", metavar="FILE", type=click.Path(dir_okay=False))
@click.pass_obj
def show(session: Session, file: str) -> None:
    """Show a key's public half and its fingerprint."""
    from appbundle.flows import sign

    public = sign.show_key(file)
    session.result(
        {"fingerprint": public.fingerprint, "public_key": public.line},
        f"{public.fingerprint}\n{public.line}",
    )
