"""`appb set`."""

import sys
from pathlib import Path

import click

from appbundle.cli import complete, gates, shapes
from appbundle.cli.session import Session
from appbundle.errors import UsageError
from appbundle.flows.context import Gate
from appbundle.names import parse_app_name


@click.command(name="set")
@click.argument("app", metavar="APP", shell_complete=complete.apps)
@click.argument("pairs", metavar="[KEY=VALUE]...", nargs=-1)
@click.option(
    "--from-file",
    "from_files",
    metavar="KEY=FILE",
    multiple=True,
    help="Take a value from a file, without the newline at its end.",
)
@gates.no_revert_option
@click.option("-n", "--dry-run", is_flag=True, help="Only check.")
@click.pass_obj
def set_command(
    session: Session,
    app: str,
    pairs: tuple[str, ...],
    from_files: tuple[str, ...],
    no_revert: bool,
    dry_run: bool,
) -> None:
    """Change settings of an app.

    That makes a new generation, so `appb switch --previous` brings the old settings back. Services
    that have the settings follow; if one does not become healthy, the old settings are back.

    KEY=- takes the value from standard input. A secret is taken from there or from a file, and
    never from the command line, where others could see it.

    \b
    Examples:
      appb set nova-api port=8774 workers=4
      appb set nova-api --from-file password=FILE
      head -c 24 /dev/urandom | base64 | appb set nova-api password=-
    """
    from appbundle.flows import settings
    from appbundle.store import value_file

    context, name = session.context(Gate(revert=not no_revert)), parse_app_name(app)
    values = dict(_split(pair) for pair in pairs)
    read = [key for key, value in values.items() if value == "-"]
    if len(read) > 1:
        raise UsageError("only one value can come from standard input", hint="--from-file KEY=FILE")
    typed = sorted(values.keys() - {*read})
    for key in read:
        values[key] = value_file.decode(sys.stdin.buffer.read(value_file.MAX_INPUT))
    for pair in from_files:
        key, file = _split(pair)
        values[key] = value_file.read(Path(file))
    if not values or len(values) != len(pairs) + len(from_files):
        raise UsageError("name each setting once: KEY=VALUE", hint="appb set --help")
    for each in settings.get(context, name, typed).values if typed else ():
        if each.setting.secret:
            raise UsageError(
                f"{each.setting.name} is a secret, and everybody can see a command line",
                hint=f"appb set {name} --from-file {each.setting.name}=FILE, or from standard "
                f"input: {each.setting.name}=-",
            )
    done = settings.change(context, name, values, dry_run=dry_run)
    (session.result if dry_run else session.done)(shapes.changed(done), shapes.changed_words(done))


def _split(pair: str) -> tuple[str, str]:
    key, equals, value = pair.partition("=")
    if not equals or not key:
        # Not quoted: what was meant to be a secret may stand there.
        raise UsageError("a setting is given as KEY=VALUE", hint="appb set --help")
    return key, value
