"""`appb repair`."""

import click

from appbundle.cli.session import Session


@click.command(name="repair")
@click.argument("file", metavar="FILE", type=click.Path())
@click.pass_obj
def repair_command(session: Session, file: str) -> None:
    """Make an installed version whole again from its bundle file.

    The version is unpacked anew and takes the damaged one's place with one rename. Damaged
    objects of the pool are dropped, and other versions that shared them get the new ones.
    """
    from appbundle.flows import verify

    done = verify.repair_from(session.context(), file)
    document = {
        "name": done.ref.name,
        "version": done.ref.version,
        "problems": [{"path": p.path, "problem": p.problem} for p in done.problems],
        "objects": done.objects,
        "relinked": done.relinked,
    }
    words = (
        f"repaired {done.ref}: {len(done.problems)} problems, {done.objects} damaged pool objects, "
        f"{done.relinked} files of other versions"
    )
    session.done(document, words)
