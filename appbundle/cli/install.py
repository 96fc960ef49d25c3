"""`appb install`."""

import click

from appbundle.cli import shapes
from appbundle.cli.session import Session, size
from appbundle.flows.context import Gate
from appbundle.flows.install import Installed


@click.command(name="install")
@click.argument("files", metavar="FILE...", nargs=-1, required=True, type=click.Path())
@click.option("--no-switch", is_flag=True, help="Install only; what is current stays current.")
@click.option("--allow-downgrade", is_flag=True, help="Accept an older release than before.")
@click.option("--no-revert", is_flag=True, help="Stay, even if a service is not healthy.")
@click.option("-n", "--dry-run", is_flag=True, help="Verify and say what would happen.")
@click.pass_obj
def install_command(
    session: Session,
    files: tuple[str, ...],
    no_switch: bool,
    allow_downgrade: bool,
    no_revert: bool,
    dry_run: bool,
) -> None:
    """Install bundles and switch to them, all in one new generation.

    FILE is a bundle file, a bundle directory, or - for standard input. Each is verified before
    anything of it is unpacked; only contents that this node does not have are written.

    \b
    Examples:
      appb install nova-api-34.0.0.bundle
      appb install keystone-30.0.0.bundle glance-33.0.0.bundle
      cat nova-api-34.0.0.bundle | appb install -
    """
    from appbundle.flows import install

    act = install.plan if dry_run else install.install
    context = session.context(Gate(revert=not no_revert))
    done = act(context, files, switch_to=not no_switch, allow_downgrade=allow_downgrade)
    document = shapes.switched(done.switched) | {
        "versions": [{"name": ref.name, "version": ref.version} for ref in done.versions],
        "new_bytes": done.cost.new_bytes,
        "new_files": done.cost.new_files,
    }
    (session.result if dry_run else session.done)(document, _words(done, dry_run))


def _words(done: Installed, dry_run: bool) -> str:
    names = ", ".join(f"{ref.name} {ref.version}" for ref in done.versions)
    new = f"{size(done.cost.new_bytes)} in {done.cost.new_files} files"
    if dry_run and (done.switched.changes or done.cost.new_files):
        changes = "".join(f"\n  {change}" for change in done.switched.changes)
        return f"would install {names}: {new} to write{changes}"
    if dry_run or done.switched.outcome == "unchanged":
        return f"{names}: installed already; nothing to change"
    generation = done.switched.generation
    after = (
        f"; generation {generation.number} is current"
        if done.switched.outcome == "switched" and generation
        else "; not switched"
    )
    return f"installed {names}: {new} written{after}"
