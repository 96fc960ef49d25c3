"""`appb trust`."""

from datetime import datetime

import click

from appbundle.cli.moment import MOMENT, seconds
from appbundle.cli.session import Session, table
from appbundle.cli.words import when
from appbundle.trust.allowed_signers import AllowedSigner, UnusableLine


@click.group(name="trust")
def trust_command() -> None:
    """Decide whose bundles this node accepts.

    The keys stand in /etc/appbundle/allowed_signers, in ssh's own format: names of apps, options,
    key. Thresholds are set in /etc/appbundle/node.toml.
    """


@trust_command.command(name="add")
@click.argument("file", metavar="FILE", type=click.Path(dir_okay=False))
@click.option(
    "--for",
    "patterns",
    metavar="GLOB",
    multiple=True,
    help="Apps that the key may sign for (nova-*); may be repeated. All by default.",
)
@click.option(
    "--valid-after",
    metavar="TIME",
    type=MOMENT,
    help="The key counts from this time (UTC) on: 2031-12-31, or 2031-12-31T23:59:59Z.",
)
@click.option(
    "--valid-before", metavar="TIME", type=MOMENT, help="The key counts until this time (UTC)."
)
@click.pass_obj
def add(
    session: Session,
    file: str,
    patterns: tuple[str, ...],
    valid_after: datetime | None,
    valid_before: datetime | None,
) -> None:
    """Trust the public key in FILE."""
    from appbundle.flows import trust

    each = trust.add(
        session.context(),
        file,
        names=patterns or ("*",),
        valid_after=seconds(valid_after),
        valid_before=seconds(valid_before),
    )
    session.done(_document(each), f"{each.key.fingerprint} may now sign for {each.names}")


@trust_command.command(name="list")
@click.pass_obj
def list_(session: Session) -> None:
    """Show the trusted keys."""
    from appbundle.flows import trust

    lines = trust.lines(session.context())
    document = {
        "signers": [_document(each) for each in lines if isinstance(each, AllowedSigner)],
        "unusable": [
            {"line": each.line, "problem": each.problem, "fingerprint": each.fingerprint}
            for each in lines
            if isinstance(each, UnusableLine)
        ],
    }
    rows = [_row(each) for each in lines]
    words = table(("key", "apps", "valid", "comment"), rows) if rows else "no key is trusted"
    session.result(document, words)


def _row(each: AllowedSigner | UnusableLine) -> tuple[str, str, str, str]:
    if isinstance(each, UnusableLine):
        return each.fingerprint or f"line {each.line}", "-", "not usable", each.problem
    validity = _validity(each) if each.is_for_bundles else "not for bundles"
    return each.key.fingerprint, each.names, validity, each.key.comment


@trust_command.command(name="remove")
@click.argument("identifier", metavar="ID")
@click.pass_obj
def remove(session: Session, identifier: str) -> None:
    """Trust a key no longer; ID is its fingerprint, or the beginning of it."""
    from appbundle.flows import trust

    fingerprint = trust.remove(session.context(), identifier)
    session.done({"removed": fingerprint}, f"{fingerprint} is no longer trusted")


def _document(each: AllowedSigner) -> dict[str, object]:
    return {
        "fingerprint": each.key.fingerprint,
        "for": each.names.split(","),
        "valid_after": each.valid_after,
        "valid_before": each.valid_before,
        "comment": each.key.comment,
    }


def _validity(each: AllowedSigner) -> str:
    parts = []
    if each.valid_after is not None:
        parts.append(f"from {when(each.valid_after)}")
    if each.valid_before is not None:
        parts.append(f"until {when(each.valid_before)}")
    return " ".join(parts) or "always"
