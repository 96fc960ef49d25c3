"""`appb get`."""

from typing import TYPE_CHECKING

import click

from appbundle.cli import complete
from appbundle.cli.session import Session, table
from appbundle.names import escape, parse_app_name

if TYPE_CHECKING:
    from appbundle.flows.settings import Value


@click.command(name="get")
@click.argument("app", metavar="APP", shell_complete=complete.apps)
@click.argument("keys", metavar="[KEY]...", nargs=-1)
@click.option("--reveal", is_flag=True, help="Show secrets too; only root can.")
@click.pass_obj
def get_command(session: Session, app: str, keys: tuple[str, ...], reveal: bool) -> None:
    """Show an app's settings, and where each value comes from.

    With one KEY only its value is printed. Secrets are shown as (secret).

    \b
    Examples:
      appb get nova-api
      appb get nova-api port
    """
    from appbundle.flows import settings

    found = settings.get(session.context(), parse_app_name(app), keys, reveal=reveal)
    document = {
        "app": found.app,
        "version": found.version,
        "settings": [
            {
                "name": each.setting.name,
                "value": each.value,
                "source": each.source,
                "of": each.setting.of if each.source == "of" else "",
                "type": each.setting.type,
                "default": None if each.setting.secret else each.setting.default,
                "secret": each.setting.secret,
                "choices": list(each.setting.choices),
                "help": each.setting.help,
            }
            for each in found.values
        ],
    }
    shown = ["(secret)" if each.value is None else each.value for each in found.values]
    if len(keys) == 1:
        words = escape(shown[0], limit=8192)
    elif not shown:
        words = f"{found.app} {found.version} has no settings"
    else:
        rows = [
            (each.setting.name, value, _source(each), each.setting.help)
            for each, value in zip(found.values, shown, strict=True)
        ]
        words = table(("name", "value", "from", "what it is"), rows)
    session.result(document, words)


def _source(value: "Value") -> str:
    return value.setting.of if value.source == "of" else value.source
