"""`appb completion`, and what bash needs beside what click does."""

import click
from click.shell_completion import (
    BashComplete,
    CompletionItem,
    add_completion_class,
    get_completion_class,
)

VARIABLE = "_APPB_COMPLETE"
"""Set by a shell's completion script when it asks."""


class Bash(BashComplete):
    """Bash, which takes the @ of APP@VERSION for the end of a word unless it is told otherwise."""

    _cut = 0

    def get_completion_args(self) -> tuple[list[str], str]:
        """Join what bash took apart."""
        args, incomplete = super().get_completion_args()
        words: list[str] = []
        for word in (*args, incomplete):
            if words and (word == "@" or words[-1].endswith("@")):
                words[-1] += word
                self._cut = words[-1].index("@") + 1
            else:
                words.append(word)
                self._cut = 0
        return words[:-1], words[-1]

    def format_completion(self, item: CompletionItem) -> str:
        """Leave out what bash has completed already."""
        if item.type == "plain":
            item = CompletionItem(item.value[self._cut :])
        return super().format_completion(item)


add_completion_class(Bash, "bash")


@click.command(name="completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion_command(shell: str) -> None:
    """Print a shell's completion script.

    \b
    Examples:
      appb completion bash > /etc/bash_completion.d/appb
    """
    from appbundle.cli.main import appb

    script = get_completion_class(shell)
    assert script is not None
    click.echo(script(appb, {}, "appb", VARIABLE).source())
