"""`appb repo refresh`, `sign`, `delegate`, `rotate`: for whoever keeps a repository."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from appbundle.cli import outcome
from appbundle.cli.passphrase import ask
from appbundle.cli.session import Session

if TYPE_CHECKING:
    from appbundle.flows.upkeep import Holders, Signed

_directory = click.argument("directory", metavar="DIR", type=click.Path(file_okay=False))
_online_key = click.option("--online-key", metavar="FILE", help="DIR.online-key by default.")
_key = click.option(
    "--key", metavar="KEY", required=True, help="Private key, or KEY.pub of a key in ssh-agent."
)


def _holders(name: str, text: str) -> Callable[[Any], Any]:
    return click.option(name, metavar="KEY.pub", multiple=True, type=click.Path(), help=text)


def _threshold(name: str, text: str) -> Callable[[Any], Any]:
    return click.option(
        name, metavar="N", type=click.IntRange(min=1), default=1, show_default=True, help=text
    )


@click.command(name="refresh")
@_directory
@_online_key
@click.pass_obj
def refresh(session: Session, directory: str, online_key: str | None) -> None:
    """Make a repository valid for another 30 days; meant for a daily timer.

    Only the online key is needed. What other signers have completed is published too, and metadata
    that were replaced more than a day ago are removed.
    """
    from appbundle.flows import upkeep
    from appbundle.repository.publishing.folder import open_folder

    done = upkeep.refresh(session.context(), where=open_folder(directory, online_key))
    document = {
        "expires": int(done.expires.timestamp()),
        "expiring": {name: int(end.timestamp()) for name, end in done.expiring.items()},
        "removed": done.removed,
    } | outcome.document(done.outcome)
    lines = [f"published {', '.join(done.outcome.published)}"] if done.outcome.published else []
    lines.append(f"{directory} is valid until {_when(done.expires)}")
    session.done(document, "\n".join(lines + outcome.words(done.outcome)))
    for name, end in done.expiring.items():
        session.say(f"{name} ends {_when(end)}: appb repo sign {directory} --key KEY")


@click.command(name="sign")
@_directory
@_key
@_online_key
@click.pass_obj
def sign_(session: Session, directory: str, key: str, online_key: str | None) -> None:
    """Sign all that waits for this key in a repository.

    That is what others have prepared and what needs further signatures, and what ends within 60
    days and would not be accepted any more then.
    """
    from appbundle.flows import sign, upkeep
    from appbundle.repository.publishing.folder import open_folder

    done = upkeep.sign(
        session.context(),
        where=open_folder(directory, online_key),
        signer=sign.open_signer(key, ask),
    )
    _tell(session, done)


@click.command(name="delegate")
@_directory
@click.argument("app", metavar="APP")
@_holders("--to", "Who may sign for the app; may be repeated.")
@_threshold("--threshold", "How many of them must sign a bundle, and what is said of it.")
@_key
@_online_key
@click.pass_obj
def delegate(
    session: Session,
    directory: str,
    app: str,
    to: tuple[str, ...],
    threshold: int,
    key: str,
    online_key: str | None,
) -> None:
    """Say who may sign for an app in a repository, instead of those who might before.

    If that leaves the app's releases unsigned, it counts once the new keys have signed what is said
    of them: `appb repo sign`.
    """
    from appbundle.flows import sign, upkeep
    from appbundle.names import parse_app_name
    from appbundle.repository.publishing.folder import open_folder

    if not to:
        raise click.UsageError("--to KEY.pub is missing")
    done = upkeep.delegate(
        session.context(),
        where=open_folder(directory, online_key),
        app=parse_app_name(app),
        to=_read_holders(to, threshold),
        signer=sign.open_signer(key, ask),
    )
    _tell(session, done)


@click.command(name="rotate")
@_directory
@_holders("--root", "Who holds the root from now on; may be repeated.")
@_threshold("--root-threshold", "How many of them must sign.")
@_holders("--targets", "Who says who may sign for which app; may be repeated.")
@_threshold("--targets-threshold", "How many of them must sign.")
@click.option("--online", "new_online", is_flag=True, help="Make another online key.")
@_key
@_online_key
@click.pass_obj
def rotate(
    session: Session,
    directory: str,
    root: tuple[str, ...],
    root_threshold: int,
    targets: tuple[str, ...],
    targets_threshold: int,
    new_online: bool,
    key: str,
    online_key: str | None,
) -> None:
    """Replace the keys at the top of a repository; nodes follow by themselves.

    A new root is signed by as many of the old keys as the old root asks for, and by as many of the
    new ones as the new root does. Each signer runs `appb repo sign`; with the last one it counts.
    """
    from appbundle.flows import sign, upkeep
    from appbundle.repository.publishing.folder import open_folder

    done = upkeep.rotate(
        session.context(),
        where=open_folder(directory, online_key),
        root=_read_holders(root, root_threshold) if root else None,
        targets=_read_holders(targets, targets_threshold) if targets else None,
        new_online=new_online,
        signer=sign.open_signer(key, ask),
    )
    _tell(session, done)


COMMANDS = (refresh, sign_, delegate, rotate)


def _read_holders(files: tuple[str, ...], threshold: int) -> "Holders":
    from appbundle.flows import sign, upkeep

    return upkeep.Holders(keys=tuple(map(sign.show_key, files)), threshold=threshold)


def _tell(session: Session, done: "Signed") -> None:
    document = {
        "signed": list(done.roles),
        "unsigned_releases": {app: list(versions) for app, versions in done.unsigned.items()},
    } | outcome.document(done.outcome)
    lines = [f"signed {', '.join(done.roles)}" if done.roles else "nothing waits for this key"]
    if done.outcome.published:
        lines.append(f"published {', '.join(done.outcome.published)}")
    session.done(document, "\n".join(lines + outcome.words(done.outcome)))
    for app, versions in done.unsigned.items():
        session.say(
            f"signed by other keys, so that nodes will refuse them: {app} {', '.join(versions)}\n"
            "appb sign FILE --key KEY, then appb publish, makes them welcome again"
        )


def _when(end: Any) -> str:
    return f"{end:%Y-%m-%d %H:%M} UTC"
