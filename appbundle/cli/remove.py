"""`appb remove`."""

import click

from appbundle.cli import complete
from appbundle.cli.session import Session
from appbundle.names import parse_ref


@click.command(name="remove")
@click.argument("what", metavar="APP[@VERSION]", shell_complete=complete.anything)
@click.option("--purge", is_flag=True, help="Remove the app's state (/var/lib/APP) as well.")
@click.option("-n", "--dry-run", is_flag=True, help="Say what would go.")
@click.pass_obj
def remove_command(session: Session, what: str, purge: bool, dry_run: bool) -> None:
    """Remove one version, or an app with all its versions.

    The current version cannot be removed by itself; pinned versions and versions that a process
    runs from stay. State stays unless --purge is given.
    """
    from appbundle.flows import remove

    done = remove.remove(session.context(), parse_ref(what), purge=purge, dry_run=dry_run)
    document = {
        "versions": [{"name": ref.name, "version": ref.version} for ref in done.versions],
        "generations": list(done.generations),
        "generation": done.generation,
        "purged": done.purged,
    }
    verb = "would remove" if dry_run else "removed"
    gone = [*map(str, done.versions), *(["the app's state"] if done.purged else [])]
    words = f"{verb} {', '.join(gone)}"
    if done.generations:
        numbers = ", ".join(map(str, done.generations))
        words += f"; generations that had it: {numbers}"
    (session.result if dry_run else session.done)(document, words)
