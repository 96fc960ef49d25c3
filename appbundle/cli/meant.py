"""What `appb start`, `stop` and `restart` share: which services are meant, and what was done."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from appbundle.cli import complete
from appbundle.cli.session import Session

if TYPE_CHECKING:
    from appbundle.services.model import Key

services_argument = click.argument(
    "services",
    metavar="APP[/SERVICE]...",
    nargs=-1,
    required=True,
    shell_complete=complete.serving,
)


def print_done(session: Session, verb: str, keys: "Sequence[Key]") -> None:
    """Print what was done to which services."""
    document = {"services": [{"app": key.app, "service": key.service} for key in keys]}
    session.result(document, f"{verb} {', '.join(map(str, keys))}")
