"""`appb unset`."""

import click

from appbundle.cli import complete, gates, shapes
from appbundle.cli.session import Session
from appbundle.flows.context import Gate
from appbundle.names import parse_app_name


@click.command(name="unset")
@click.argument("app", metavar="APP", shell_complete=complete.apps)
@click.argument("keys", metavar="KEY...", nargs=-1, required=True)
@gates.no_revert_option
@click.option("-n", "--dry-run", is_flag=True, help="Only check.")
@click.pass_obj
def unset_command(
    session: Session, app: str, keys: tuple[str, ...], no_revert: bool, dry_run: bool
) -> None:
    """Give settings of an app their defaults again.

    A secret is made anew. Like `appb set`, this makes a new generation.

    \b
    Examples:
      appb unset nova-api port
    """
    from appbundle.flows import settings

    context, name = session.context(Gate(revert=not no_revert)), parse_app_name(app)
    done = settings.change(context, name, {}, unset=keys, dry_run=dry_run)
    (session.result if dry_run else session.done)(shapes.changed(done), shapes.changed_words(done))
