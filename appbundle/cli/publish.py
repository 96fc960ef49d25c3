"""`appb publish`."""

from typing import TYPE_CHECKING, Any

import click

from appbundle.cli import outcome
from appbundle.cli.passphrase import ask
from appbundle.cli.session import Session
from appbundle.cli.words import size

if TYPE_CHECKING:
    from appbundle.flows.publish import Published


@click.command(name="publish")
@click.argument(
    "files", metavar="FILE...", nargs=-1, required=True, type=click.Path(dir_okay=False)
)
@click.option(
    "--repo",
    "directory",
    metavar="DIR",
    required=True,
    type=click.Path(file_okay=False),
    help="The repository's folder; made if it is not there.",
)
@click.option(
    "--channel",
    "channels",
    metavar="NAME",
    multiple=True,
    default=("stable",),
    show_default=True,
    help="Whose newest release it may become; may be repeated.",
)
@click.option(
    "--key", metavar="KEY", required=True, help="Private key, or KEY.pub of a key in ssh-agent."
)
@click.option("--online-key", metavar="FILE", help="DIR.online-key by default.")
@click.pass_obj
def publish_command(
    session: Session,
    files: tuple[str, ...],
    directory: str,
    channels: tuple[str, ...],
    key: str,
    online_key: str | None,
) -> None:
    """Put bundle files into a repository: a folder that any web server can serve.

    The first use makes the repository and prints the line by which nodes know it. A bundle must be
    signed by those who may sign for its app there. Readers see the old state or the new one.

    \b
    Examples:
      appb publish nova-api-34.0.0.bundle --repo www --key team.key
      appb publish nova-api-34.0.0.bundle --repo www --channel edge --key team.key
    """
    from appbundle.flows import publish, sign
    from appbundle.repository.publishing.folder import open_folder
    from appbundle.repository.release import parse_channel

    done = publish.publish(
        session.context(),
        files,
        where=open_folder(directory, online_key),
        channels=[parse_channel(each) for each in channels],
        signer=sign.open_signer(key, ask),
    )
    session.done(_document(done, directory), _words(done))


def _document(done: "Published", directory: str) -> dict[str, Any]:
    return {
        "repository": directory,
        "new": done.is_new,
        "root_sha256": done.root_sha256,
        "releases": [
            {
                "name": each.app,
                "version": each.version,
                "release": each.release,
                "digest": each.digest,
                "size_bytes": each.size,
                "channels": list(each.channels),
            }
            for each in done.releases
        ],
    } | outcome.document(done.outcome)


def _words(done: "Published") -> str:
    verb = "published" if done.outcome.published else "prepared"
    if not done.changed:
        verb = "published already:"
    lines = [
        f"{verb} {each.app} {each.version} ({', '.join(each.channels)}): {size(each.size)}"
        for each in done.releases
    ]
    lines += outcome.words(done.outcome)
    if done.is_new:
        lines.append(f"nodes use it with: appb repo add URL#sha256={done.root_sha256}")
    return "\n".join(lines)
