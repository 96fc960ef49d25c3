"""`appb info`."""

import shlex
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from appbundle.cli import complete, shapes
from appbundle.cli.session import Session
from appbundle.cli.words import size, when
from appbundle.errors import UsageError
from appbundle.names import escape

if TYPE_CHECKING:
    from appbundle.bundle.manifest import Manifest


@click.command(name="info")
@click.argument(
    "what", metavar="FILE|APP[@VERSION|@CHANNEL]", shell_complete=complete.anything_or_file
)
@click.option("--statement", is_flag=True, help="Print only the signed statement, byte for byte.")
@click.option(
    "--signature", metavar="N", type=int, help="Print only the N-th signature, as ssh-keygen does."
)
@click.pass_obj
def info_command(session: Session, what: str, statement: bool, signature: int | None) -> None:
    """Show everything about a bundle, an installed version, or what a repository offers.

    Of APP, the current version is shown, or the named one. If that is not installed, repositories
    are asked: only the manifest is fetched, to say what installing would fetch, and which
    permissions are wider than those of the current version.

    A bundle that this node does not trust is not looked into; --statement and --signature print
    what is signed, and the signatures, of any bundle.

    \b
    Examples:
      appb info nova-api
      appb info ./nova-api-34.0.0.bundle
      appb info --statement nova-api | ssh-keygen -Y verify -f /etc/appbundle/allowed_signers \\
        -I nova-api -n appb-bundle-v1 -s SIGNATURE
    """
    from appbundle.flows import describe
    from appbundle.flows.sign import describe_signatures, nth_signature

    context = session.context()
    if statement and signature is not None:
        raise UsageError("--statement or --signature, not both", hint="appb info --help")
    if statement or signature is not None:
        signed = describe.statement(context, what)
        part = {"statement": signed.statement.decode("utf-8", "replace")}
        if signature is not None:
            part = {"signature": nth_signature(signed, signature)}
        if session.as_json:
            session.result(part, "")
        elif statement:
            sys.stdout.buffer.write(signed.statement)
        else:
            sys.stdout.write(part["signature"])
        return
    described = describe.info(context, what)
    document = shapes.about(described.about) | {
        "signatures": describe_signatures(described.signed),
        "offer": shapes.offer(described.offer),
    }
    session.result(document, _words(document, described.about.manifest))


def _words(document: dict[str, Any], manifest: "Manifest") -> str:
    from appbundle.bundle.declared import declared

    rows: list[tuple[str, str]] = []
    for key, value in document.items():
        match key, value:
            case "size_bytes", int():
                rows.append(("size", f"{size(value)} in {document['files']} files"))
            case (("installed_at" | "created"), int()):
                rows.append((key.replace("_at", ""), when(value)))
            case "offer", dict():
                rows += _offer_rows(value)
            case "signatures", list():
                rows += [("signed by", f"{each['fingerprint']}") for each in value]
            case "requires" | "run", dict():
                rows += [(f"{key} {inner}", _word(each)) for inner, each in value.items() if each]
            case "commands", dict():
                rows += declared(manifest)
            case (("files" | "format" | "signers"), _):
                pass
            case (("services" | "settings" | "templates" | "tasks" | "rollback"), _):
                pass  # Said with commands.
            case _, "" | None:
                pass
            case _:
                rows.append((key, str(value)))
    width = max(len(key) for key, _ in rows)
    return "\n".join(f"{key.ljust(width)}  {escape(value)}" for key, value in rows)


def _offer_rows(offer: dict[str, Any]) -> Iterator[tuple[str, str]]:
    channels = ", ".join(offer["channels"])
    yield "offered by", f"{offer['repository']} ({channels})" if channels else offer["repository"]
    yield "to fetch", f"{size(offer['fetched_bytes'])}; {size(offer['saved_bytes'])} saved"
    yield "to write", f"{size(offer['new_bytes'])} in {offer['new_files']} files"
    for each in offer["widenings"]:
        yield "may newly", each


def _word(value: str | list[str] | dict[str, str]) -> str:
    """One of the values of `run` or `requires`, as a shell would take it."""
    if isinstance(value, dict):
        value = [f"{name}={text}" for name, text in value.items()]
    return value if isinstance(value, str) else shlex.join(value)
