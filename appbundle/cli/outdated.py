"""`appb outdated`."""

import click

from appbundle.cli.session import Session, table
from appbundle.cli.words import size, when


@click.command(name="outdated")
@click.pass_obj
def outdated_command(session: Session) -> None:
    """Show apps of which their repository has a newer release."""
    from appbundle.flows import upgrade

    found = upgrade.outdated(session.context())
    document = {
        "apps": [
            {
                "name": each.described.app,
                "current": each.current,
                "version": each.release.version,
                "channels": list(each.release.channels),
                "repository": each.described.repository,
                "size_bytes": each.release.size,
                "held": None if each.hold is None else each.hold.reason,
                "held_until": None if each.hold is None else each.hold.until,
            }
            for each in found
        ]
    }
    if session.as_json or not found:
        session.result(document, "everything is up to date")
        return
    rows = [
        (
            each.described.app,
            each.current,
            each.release.version,
            ", ".join(each.release.channels),
            each.described.repository,
            size(each.release.size),
            "" if each.hold is None else _held(each.hold.reason, each.hold.until),
        )
        for each in found
    ]
    headings = ("app", "current", "newest", "channels", "repository", "size", "")
    session.result(document, table(headings, rows))


def _held(reason: str, until: int | None) -> str:
    end = f" until {when(until)}" if until is not None else ""
    return f"held{end}: {reason}"
