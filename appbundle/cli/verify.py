"""`appb verify`."""

import click

from appbundle.cli import complete
from appbundle.cli.session import Session, table
from appbundle.names import parse_ref


@click.command(name="verify")
@click.argument(
    "what", metavar="[APP[@VERSION]|FILE]", required=False, shell_complete=complete.anything_or_file
)
@click.option("--full", is_flag=True, help="Read the pool too when one app is named.")
@click.pass_context
def verify_command(ctx: click.Context, what: str | None, full: bool) -> None:
    """Compare every byte on disk with what was signed; finds missing and extra files too.

    Without an argument: all versions of all apps, and the pool. With a bundle file: its signature,
    every frame, every tar header and every content. Exits with 21 if anything differs.
    """
    from appbundle.flows import arguments, verify

    session: Session = ctx.obj
    if what is not None and arguments.is_path(what):
        found = verify.verify_file(session.context(), what)
    else:
        ref = None if what is None else parse_ref(what)
        found = verify.verify(session.context(), ref, full=full)
    document = {
        "ok": found.ok,
        "checked_files": found.checked_files,
        "problems": [{"path": p.path, "problem": p.problem} for p in found.problems],
    }
    if found.ok:
        session.done(document, f"{found.checked_files} files are as they were signed")
        return
    rows = [(each.path, each.problem) for each in found.problems]
    session.result(document, table(("path", "problem"), rows))
    session.say("hint: appb repair BUNDLE_FILE makes a version whole again")
    ctx.exit(21)
