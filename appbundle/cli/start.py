"""`appb start`."""

import click

from appbundle.cli.meant import all_option, choose, print_done, services_argument
from appbundle.cli.session import Session


@click.command(name="start")
@services_argument
@all_option
@click.pass_obj
def start_command(session: Session, services: tuple[str, ...], all_of_them: bool) -> None:
    """Start services, those first that others need, and wait until they are healthy.

    Those that do not need one another start at the same time. --all means whatever a boot starts.

    \b
    Examples:
      appb start nova-api
      appb start --all
    """
    from appbundle.flows import serving

    chosen = choose(services, all_of_them=all_of_them)
    print_done(session, "started", serving.start(session.context(), chosen))
