"""`appb apply`."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from appbundle.cli import gates, shapes
from appbundle.cli.session import Session
from appbundle.flows.context import Gate
from appbundle.names import escape

if TYPE_CHECKING:
    from appbundle.flows.install import Installed


@click.command(name="apply")
@click.argument("file", metavar="FILE", type=click.Path(path_type=Path))
@click.option(
    "--bundles",
    "directories",
    metavar="DIR",
    multiple=True,
    type=click.Path(),
    help="Choose from the bundle files in DIR, too; may be repeated.",
)
@click.option("--allow-downgrade", is_flag=True, help="Accept an older release than before.")
@gates.no_revert_option
@gates.confirm_within_option
@gates.accept_loss_option
@click.option("-n", "--dry-run", is_flag=True, help="Say what would happen.")
@click.pass_obj
def apply_command(
    session: Session,
    file: Path,
    directories: tuple[str, ...],
    allow_downgrade: bool,
    no_revert: bool,
    confirm_within: int | None,
    accept_loss: bool,
    dry_run: bool,
) -> None:
    """Give this node the apps and settings of a node file, all in one new generation.

    The file is all there is: an app that it does not name leaves, and a setting that it does not
    name has its default again. What is said already is left as it is, so applying a file twice
    does nothing. What changes is said before it happens; if a service does not become healthy, all
    of it is taken back, and the exit code is 30.

    \b
    Examples:
      appb apply --dry-run node.toml
      appb apply node.toml
      appb apply --bundles usb node.toml
    """
    from appbundle.flows import apply

    gate = Gate(revert=not no_revert, confirm_within_s=confirm_within, accept_loss=accept_loss)
    if not dry_run:
        gates.arm(session, gate)
    done = apply.apply(
        session.context(gate),
        file,
        directories=directories,
        allow_downgrade=allow_downgrade,
        dry_run=dry_run,
    )
    gates.tell(session, gate, done.switched)
    words = _words(escape(file.name), done, dry_run=dry_run)
    (session.result if dry_run else session.done)(shapes.installed(done), words)


def _words(title: str, done: "Installed", *, dry_run: bool) -> str:
    switched, new = done.switched, shapes.new_words(done.cost, dry_run=dry_run)
    if dry_run and switched.lines:
        return f"would apply {title}: {new} to write" + "".join(f"\n  {e}" for e in switched.lines)
    number = switched.generation.number if switched.generation else None
    if switched.outcome != "switched":
        as_it_is = f"generation {number}" if number else "this node"
        return f"{as_it_is} is as {title} says; nothing to do"
    return f"applied {title}: {new} written; generation {number} is current"
