"""Asking for passphrases: at the terminal, or from the file that APPB_PASSPHRASE_FILE names."""

import os
import sys
from pathlib import Path

import click

from appbundle.errors import NotFoundError, UsageError

_VARIABLE = "APPB_PASSPHRASE_FILE"


def _from_file() -> str | None:
    path = os.environ.get(_VARIABLE)
    if not path:
        return None
    try:
        return Path(path).read_text().rstrip("\n")
    except OSError as error:
        raise NotFoundError(f"{_VARIABLE}: {path} cannot be read: {error.strerror}") from error


def ask(prompt: str) -> str:
    """Ask for the passphrase of an existing key.

    Raises:
        NotFoundError: There is no terminal, and no file was named.
    """
    given = _from_file()
    if given is not None:
        return given
    if sys.stdin is None or not sys.stdin.isatty():
        raise NotFoundError(
            "the key is encrypted, and there is no terminal to ask at",
            hint=f"set {_VARIABLE}, or load the key into ssh-agent",
        )
    return str(click.prompt(prompt, hide_input=True, prompt_suffix="", err=True))


def ask_new() -> str:
    """Ask for a new key's passphrase, twice; empty leaves the key unencrypted.

    Raises:
        UsageError: There is no terminal, and it was not said what to do.
    """
    given = _from_file()
    if given is not None:
        return given
    if sys.stdin is None or not sys.stdin.isatty():
        raise UsageError(
            "there is no terminal to ask for a passphrase at",
            hint=f"--no-passphrase, or set {_VARIABLE}",
        )
    return str(
        click.prompt(
            "Passphrase (empty for none)",
            hide_input=True,
            default="",
            show_default=False,
            confirmation_prompt=True,
            err=True,
        )
    )
