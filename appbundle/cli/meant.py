"""What `appb start`, `stop` and `restart` share: which services are meant, and what was done."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from appbundle.cli import complete
from appbundle.cli.session import Session
from appbundle.errors import UsageError

if TYPE_CHECKING:
    from appbundle.services.model import Key

services_argument = click.argument(
    "services",
    metavar="[APP[/SERVICE]]...",
    nargs=-1,
    shell_complete=complete.serving,
)


all_option = click.option("--all", "all_of_them", is_flag=True, help="All of the node.")


def choose(services: tuple[str, ...], *, all_of_them: bool) -> tuple[str, ...]:
    """What is meant: those that are named, or nothing for all.

    Raises:
        UsageError: Neither, or both.
    """
    if bool(services) == all_of_them:
        raise UsageError("name services, or say --all", hint="appb status shows which there are")
    return services


def print_done(session: Session, verb: str, keys: "Sequence[Key]") -> None:
    """Print what was done to which services."""
    document = {"services": [{"app": key.app, "service": key.service} for key in keys]}
    session.result(document, f"{verb} {', '.join(map(str, keys)) or 'nothing'}")
