"""`appb repo`: its subcommands are in modules of their own, by who needs them."""

import click

from appbundle.cli import repo_keeping, repo_push, repo_using


@click.group(name="repo")
def repo_command() -> None:
    """Use repositories, and keep your own.

    A repository is a folder of static files that any web server can serve; `appb publish` makes it.

    \b
    Examples:
      appb repo list
    """


for _command in (*repo_using.COMMANDS, *repo_keeping.COMMANDS, *repo_push.COMMANDS):
    repo_command.add_command(_command)
