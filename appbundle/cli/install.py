"""`appb install`."""

import click

from appbundle.cli import gates, shapes
from appbundle.cli.session import Session
from appbundle.flows.context import Gate


@click.command(name="install")
@click.argument("words", metavar="FILE|APP[@VERSION|@CHANNEL]...", nargs=-1, required=True)
@click.option("--from", "repository", metavar="NAME", help="Look for apps in this repository only.")
@click.option("--no-switch", is_flag=True, help="Install only; what is current stays current.")
@click.option("--allow-downgrade", is_flag=True, help="Accept an older release than before.")
@gates.no_revert_option
@click.option("-n", "--dry-run", is_flag=True, help="Verify and say what would happen.")
@click.pass_obj
def install_command(
    session: Session,
    words: tuple[str, ...],
    repository: str | None,
    no_switch: bool,
    allow_downgrade: bool,
    no_revert: bool,
    dry_run: bool,
) -> None:
    """Install bundles and switch to them, all in one new generation.

    FILE is a bundle file, a bundle directory, or - for standard input; APP is looked up in the
    node's repositories, and is from then on bound to the one that it came from. Without a version
    or channel it is the newest stable release. Each bundle is verified before anything of it is
    unpacked; only contents that this node does not have are fetched and written.

    \b
    Examples:
      appb install nova-api-34.0.0.bundle
      appb install nova-api keystone@30.0.0 glance@beta
      cat nova-api-34.0.0.bundle | appb install -
    """
    from appbundle.flows import install

    act = install.plan if dry_run else install.install
    done = act(
        session.context(Gate(revert=not no_revert)),
        words,
        repository=repository,
        switch_to=not no_switch,
        allow_downgrade=allow_downgrade,
    )
    words_of_it = shapes.installed_words(done, dry_run=dry_run)
    (session.result if dry_run else session.done)(shapes.installed(done), words_of_it)
