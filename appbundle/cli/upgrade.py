"""`appb upgrade`."""

import click

from appbundle.cli import complete, gates, shapes
from appbundle.cli.duration import Duration
from appbundle.cli.session import Session
from appbundle.errors import UsageError
from appbundle.flows.context import Context, Gate
from appbundle.names import parse_app_name


@click.command(name="upgrade")
@click.argument("apps", metavar="[APP]...", nargs=-1, shell_complete=complete.apps)
@gates.no_revert_option
@click.option("-n", "--dry-run", is_flag=True, help="Say what would be fetched and what changes.")
@click.option(
    "--schedule",
    "calendar",
    metavar="TIME",
    multiple=True,
    help="Upgrade by itself in windows that begin then: 'Sat 02:00'; may be repeated.",
)
@click.option(
    "--window",
    metavar="TIME",
    type=Duration(),
    default="1h",
    show_default=True,
    help="How long such a window is; the upgrade begins at any moment of it.",
)
@click.option("--unschedule", is_flag=True, help="Upgrade only when told to.")
@click.pass_obj
def upgrade_command(
    session: Session,
    apps: tuple[str, ...],
    no_revert: bool,
    dry_run: bool,
    calendar: tuple[str, ...],
    window: int,
    unschedule: bool,
) -> None:
    """Install newer releases of apps from repositories, all in one new generation.

    Without APP: of all that are current and not held. An app follows the stable channel, or, while
    it runs a release that is not in that, the channels of what it runs.

    \b
    Examples:
      appb upgrade --dry-run
      appb upgrade nova-api
      appb upgrade --schedule "Sat 02:00" --window 2h
    """
    from appbundle.flows import upgrade

    context = session.context(Gate(revert=not no_revert))
    if calendar or unschedule:
        if apps or dry_run or no_revert or (calendar and unschedule):
            raise UsageError("--schedule and --unschedule stand alone", hint="appb upgrade --help")
        _schedule(session, context, calendar, window)
        return
    done = upgrade.upgrade(context, [parse_app_name(app) for app in apps], dry_run=dry_run)
    words = "nothing to upgrade"
    if done.versions:
        words = shapes.installed_words(done, dry_run=dry_run)
    (session.result if dry_run else session.done)(shapes.installed(done), words)


def _schedule(session: Session, context: Context, calendar: tuple[str, ...], window_s: int) -> None:
    from appbundle.flows import schedule

    document = {"schedule": list(calendar), "window_s": window_s if calendar else None}
    if calendar:
        schedule.schedule(context, calendar, window_s=window_s)
        session.done(document, f"upgrades begin by themselves: {', '.join(calendar)}")
    elif schedule.unschedule(context):
        session.done(document, "upgrades begin only when told to")
    else:
        session.done(document, "nothing was scheduled")
