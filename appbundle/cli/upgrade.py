"""`appb upgrade`."""

import click

from appbundle.cli import complete, shapes
from appbundle.cli.session import Session
from appbundle.flows.context import Gate
from appbundle.names import parse_app_name


@click.command(name="upgrade")
@click.argument("apps", metavar="[APP]...", nargs=-1, shell_complete=complete.apps)
@click.option("--no-revert", is_flag=True, help="Stay, even if a service is not healthy.")
@click.option("-n", "--dry-run", is_flag=True, help="Say what would be fetched and what changes.")
@click.pass_obj
def upgrade_command(
    session: Session, apps: tuple[str, ...], no_revert: bool, dry_run: bool
) -> None:
    """Install newer releases of apps from repositories, all in one new generation.

    Without APP: of all that are current and not held. An app follows the stable channel, or, while
    it runs a release that is not in that, the channels of what it runs.

    \b
    Examples:
      appb upgrade --dry-run
      appb upgrade nova-api
    """
    from appbundle.flows import upgrade

    context = session.context(Gate(revert=not no_revert))
    done = upgrade.upgrade(context, [parse_app_name(app) for app in apps], dry_run=dry_run)
    words = "everything is up to date"
    if done.versions:
        words = shapes.installed_words(done, dry_run=dry_run)
    (session.result if dry_run else session.done)(shapes.installed(done), words)
