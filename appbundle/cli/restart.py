"""`appb restart`."""

import click

from appbundle.cli.meant import all_option, choose, print_done, services_argument
from appbundle.cli.session import Session


@click.command(name="restart")
@services_argument
@all_option
@click.pass_obj
def restart_command(session: Session, services: tuple[str, ...], all_of_them: bool) -> None:
    """Restart services, those first that others need, and wait until they are healthy.

    Those that do not need one another restart at the same time. --all means all that run.

    \b
    Examples:
      appb restart nova-api
      appb restart --all
    """
    from appbundle.flows import serving

    chosen = choose(services, all_of_them=all_of_them)
    print_done(session, "restarted", serving.restart(session.context(), chosen))
