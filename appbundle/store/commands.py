"""Commands that apps export: in each generation a launcher for each, below `/apps/bin`.

The launchers are part of a generation, so that one rename changes all commands of a node.
"""

import os
import shlex
import stat
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from appbundle.errors import ConflictError
from appbundle.layout import COMMANDS, Layout
from appbundle.names import AppName
from appbundle.system import files

Commands = Mapping[AppName, Mapping[str, Sequence[str]]]
"""Program and first arguments, by app and by the command's name."""

LINK = f".appb/generations/current/{COMMANDS}"
"""Where `/apps/bin` points, always."""
MODE = 0o755

_TEXT = """\
#!/bin/sh
# {name} of {app}, in generation {number}: written by appb, and anew in each generation.
# The node's root is found from here, so that a node may be moved.
here=$(readlink -f "$0")
root=${{here%/apps/.appb/*}}
exec {appb} --root "$root/" run --no-sockets --generation {number} {app} -- {argv} "$@"
"""


def names(commands: Commands) -> set[str]:
    """The names of all commands of a generation."""
    return {name for own in commands.values() for name in own}


def check(layout: Layout, commands: Commands) -> None:
    """Refuse commands that cannot be there together, or not at all.

    Raises:
        ConflictError: Two apps export the same command, or something else is `/apps/bin`.
    """
    owners: dict[str, AppName] = {}
    for app, own in commands.items():
        for name in own:
            if name in owners:
                raise ConflictError(
                    f"{owners[name]} and {app} both have a command {name}",
                    hint="they cannot be in one generation: leave one out, or remove it first: "
                    f"appb remove {owners[name]}",
                )
            owners[name] = app
    if owners and (os.path.lexists(layout.commands) and not os.path.islink(layout.commands)):
        raise ConflictError(
            f"{layout.commands} is something else than a link to commands",
            hint=f"move it away: mv {layout.commands} {layout.commands}.old",
        )


def write(directory: Path, number: int, commands: Commands, appb: Sequence[str]) -> None:
    """Write the launchers of a generation that is prepared; a later sync makes them durable.

    Args:
        directory: The generation in the making.
        number: Its number.
        appb: How appb is started; a first word without a slash in front is below the node's root.
    """
    if not commands:
        return
    home = directory / COMMANDS
    files.make_directory(home)
    for name, text in _launchers(number, commands, appb):
        files.write_new(home / name, text.encode(), mode=MODE)


def link(layout: Layout) -> None:
    """Make the link to the current generation's commands where there is none."""
    try:
        os.symlink(LINK, layout.commands)
    except FileExistsError:
        if os.path.islink(layout.commands) and os.readlink(layout.commands) != LINK:
            files.replace_link(layout.commands, LINK)
    else:
        files.fsync_directory(layout.apps)


def _launchers(number: int, commands: Commands, appb: Sequence[str]) -> Iterator[tuple[str, str]]:
    program, *words = appb
    start = shlex.quote(program) if program.startswith("/") else f'"$root"/{shlex.quote(program)}'
    for app, own in commands.items():
        for name, argv in own.items():
            yield (
                name,
                _TEXT.format(
                    name=name,
                    app=app,
                    number=number,
                    appb=" ".join([start, *map(shlex.quote, words)]),
                    argv=shlex.join(argv),
                ),
            )


def wrong(
    directory: Path, number: int, commands: Commands, appb: Sequence[str]
) -> Iterator[tuple[str, str]]:
    """Compare a generation's launchers with its record.

    Returns:
        Paths below the generation, each with what is wrong.
    """
    expected = dict(_launchers(number, commands, appb)) if commands else {}
    home = directory / COMMANDS
    try:
        found = set(os.listdir(home))
    except OSError:
        found = set()
    for name in sorted(found - expected.keys()):
        yield f"{COMMANDS}/{name}", "extra"
    for name, text in expected.items():
        problem = _problem(home / name, text)
        if problem:
            yield f"{COMMANDS}/{name}", problem


def _problem(path: Path, text: str) -> str:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return "missing"
    except OSError:
        return "changed"
    with open(fd, "rb") as file:
        status, expected = os.fstat(fd), text.encode()
        if not stat.S_ISREG(status.st_mode) or file.read(len(expected) + 1) != expected:
            return "changed"
    mode = stat.S_IMODE(status.st_mode)
    return "" if mode == MODE else f"mode {mode:04o} instead of {MODE:04o}"
