"""`appb completion`."""

import click


@click.command(name="completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion_command(shell: str) -> None:
    """Print a shell's completion script.

    \b
    Examples:
      appb completion bash > /etc/bash_completion.d/appb
    """
    from click.shell_completion import get_completion_class

    from appbundle.cli.main import appb

    script = get_completion_class(shell)
    assert script is not None
    click.echo(script(appb, {}, "appb", "_APPB_COMPLETE").source())
