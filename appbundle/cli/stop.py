"""`appb stop`."""

import click

from appbundle.cli.meant import all_option, choose, print_done, services_argument
from appbundle.cli.session import Session


@click.command(name="stop")
@services_argument
@all_option
@click.pass_obj
def stop_command(session: Session, services: tuple[str, ...], all_of_them: bool) -> None:
    """Stop services; they stay stopped through upgrades until they are started again.

    Those that need others stop first.

    \b
    Examples:
      appb stop nova-api
      appb stop --all
    """
    from appbundle.flows import serving

    chosen = choose(services, all_of_them=all_of_them)
    print_done(session, "stopped", serving.stop(session.context(), chosen))
