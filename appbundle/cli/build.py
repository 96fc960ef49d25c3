"""`appb build`."""

import os
import time
from pathlib import Path

import click

from appbundle.cli.passphrase import ask
from appbundle.cli.session import Session
from appbundle.cli.words import size
from appbundle.errors import UnsupportedError, UsageError

_DEFAULT_LEVEL = 12
_MAX_EPOCH = 8**11 - 1


@click.command(name="build")
@click.argument("recipe", metavar="RECIPE_DIR", type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The bundle file; NAME-VERSION.bundle in the current directory by default.",
)
@click.option(
    "--key", metavar="KEY", help="Sign it: private key, or KEY.pub of a key in ssh-agent."
)
@click.option(
    "--previous",
    metavar="FILE",
    type=click.Path(),
    help="Bundle of the release before: contents that changed since then come last.",
)
@click.option(
    "--dir",
    "directory",
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="Make a bundle directory; without -o no file is made.",
)
@click.option("--release", metavar="VERSION", help="Which of the recipe's releases to build.")
@click.option("--update-lock", is_flag=True, help="Look for new inputs and pin those.")
@click.option("--update-footprint", is_flag=True, help="Accept the entries that are found.")
@click.option(
    "--level",
    metavar="N",
    type=click.IntRange(1, 22),
    default=_DEFAULT_LEVEL,
    show_default=True,
    help="How hard to compress.",
)
@click.option(
    "--cache",
    metavar="DIR",
    envvar="APPB_CACHE",
    type=click.Path(file_okay=False, path_type=Path),
    help="Keep downloads in DIR.",
)
@click.pass_obj
def build_command(
    session: Session,
    recipe: Path,
    output: Path | None,
    key: str | None,
    previous: str | None,
    directory: Path | None,
    release: str | None,
    update_lock: bool,
    update_footprint: bool,
    level: int,
    cache: Path | None,
) -> None:
    """Make a bundle from a recipe.

    The recipe's sources are collected as its lock pins them, checked to be self-contained, compared
    with its footprint and packed. With SOURCE_DATE_EPOCH set, the same inputs give the same bytes.
    Nothing is written where the bundle should be unless all of it succeeds.

    \b
    Examples:
      appb build bundles/hello
      appb build bundles/nova-api --key ~/.ssh/id_ed25519 --previous nova-api-33.0.2.bundle
    """
    try:
        from appbundle.build.collect import find_cache
        from appbundle.flows import build, sign
    except ModuleNotFoundError as error:
        raise UnsupportedError(
            f"this appb cannot build: {error.name} is missing",
            hint="install it by pip, as appbundle[build], on the machine that shall build",
        ) from error

    signer = sign.open_signer(key, ask) if key else None
    done = build.build(
        session.context(),
        recipe,
        build.Options(
            output=output,
            directory=directory,
            previous=previous,
            release=release,
            update_lock=update_lock,
            update_footprint=update_footprint,
            level=level,
            created=_created(),
            cache=_absolute(cache or find_cache(os.environ)),
        ),
        signer=signer,
    )
    document = {
        "name": done.name,
        "version": done.version,
        "digest": done.digest,
        "file": str(done.file) if done.file else None,
        "directory": str(done.directory) if done.directory else None,
        "size_bytes": done.size_bytes,
        "files": done.files,
        "signed": done.signed,
    }
    session.done(document, _words(done.file, done.directory, done.size_bytes, done.files))
    if not done.signed:
        session.say(f"hint: it is not signed; appb sign {done.file or 'FILE'} --key KEY")


def _words(file: Path | None, directory: Path | None, size_bytes: int, files: int) -> str:
    made = " and ".join(str(each) for each in (file, directory) if each)
    return f"made {made}: {size(size_bytes)}, {files} files"


def _created() -> int:
    """Give the bundle's time: SOURCE_DATE_EPOCH, else now."""
    given = os.environ.get("SOURCE_DATE_EPOCH", "")
    if not given:
        return int(time.time())
    if not (given.isascii() and given.isdigit() and int(given) <= _MAX_EPOCH):
        raise UsageError("SOURCE_DATE_EPOCH is not a number of seconds since 1970")
    return int(given)


def _absolute(path: Path) -> Path:
    return Path(os.path.abspath(path))
