"""`appb exec`: a program of the bundle, inside a running service."""

import click

from appbundle.cli import complete
from appbundle.cli.session import Session


@click.command(name="exec", context_settings={"ignore_unknown_options": False})
@click.option("--next", "is_next", is_flag=True, hidden=True)
@click.argument("service", metavar="APP[/SERVICE]", shell_complete=complete.anything)
@click.argument("words", metavar="[--] COMMAND...", nargs=-1, required=True, type=click.UNPROCESSED)
@click.pass_obj
def exec_command(session: Session, *, service: str, words: tuple[str, ...], is_next: bool) -> None:
    """Run a program of the bundle inside a running service.

    It has the service's namespaces, user, control group, directories and environment, and is as
    confined as the service. It ends with the service at the latest. appb ends as the program
    ends: with its exit code, or by the same signal.
    """
    from appbundle.cli.run import end_as
    from appbundle.flows import enter

    end_as(enter.execute(str(session.root), service, words, is_next=is_next))
