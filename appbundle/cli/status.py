"""`appb status`."""

from typing import TYPE_CHECKING, Any

import click

from appbundle.cli import complete
from appbundle.cli.session import Session, table
from appbundle.cli.words import size, when

if TYPE_CHECKING:
    from appbundle.flows.serving import Status


@click.command(name="status")
@click.argument("services", metavar="[APP[/SERVICE]]...", nargs=-1, shell_complete=complete.serving)
@click.pass_obj
def status_command(session: Session, services: tuple[str, ...]) -> None:
    """Show services: what runs, from which version, how healthy, since when.

    A service that still runs from another version than the current one is marked with !.

    \b
    Examples:
      appb status
      appb status nova-api
    """
    from appbundle.flows import serving

    found = serving.status(session.context(), services)
    document = {"services": [_document(each) for each in found]}
    rows = [_row(each) for each in found]
    headings = ("service", "state", "version", "health", "since", "memory")
    session.result(document, table(headings, rows) if rows else "no app has services")


def _document(each: "Status") -> dict[str, Any]:
    seen = each.seen
    return {
        "app": each.instance.key.app,
        "service": each.instance.key.service,
        "is_second": each.instance.is_next,
        "state": seen.state.value,
        "version": seen.version,
        "current": each.current,
        "is_stale": each.is_stale,
        "health": each.health,
        "since": seen.since,
        "pid": seen.pid,
        "memory_bytes": seen.memory_bytes,
        "enabled": seen.enabled,
        "why": seen.why,
    }


def _row(each: "Status") -> tuple[str, ...]:
    seen = each.seen
    state = f"{seen.state.value}: {seen.why}" if seen.why else seen.state.value
    return (
        str(each.instance),
        state,
        f"{'!' if each.is_stale else ''}{seen.version or '-'}",
        each.health if each.health != "unknown" else "-",
        when(seen.since) if seen.since else "-",
        size(seen.memory_bytes) if seen.memory_bytes else "-",
    )
