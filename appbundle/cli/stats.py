"""`appb stats`."""

from typing import TYPE_CHECKING, Any

import click

from appbundle.cli import complete
from appbundle.cli.session import Session, table
from appbundle.cli.words import size

if TYPE_CHECKING:
    from appbundle.flows.stats import Figures
    from appbundle.runtime.stats import Resource

_TITLES = {
    "memory_bytes": "memory",
    "tasks": "tasks",
    "cpu_seconds": "processor time",
    "open_files": "open files",
}


@click.command(name="stats")
@click.argument("app", required=False, default="", shell_complete=complete.anything)
@click.pass_obj
def stats_command(session: Session, *, app: str) -> None:
    """Show what running services hold, held at most, may hold, and were refused."""
    from appbundle.flows import stats

    found = stats.read(str(session.root), app)
    document = {"services": [_document(each) for each in found]}
    rows = [row for each in found for row in _rows(each)]
    headings = ("service", "resource", "held", "maximum", "limit", "failures")
    session.result(document, table(headings, rows) if rows else "nothing runs")


def _document(each: "Figures") -> dict[str, Any]:
    from dataclasses import asdict

    process = each.process
    return {
        "app": process.app,
        "service": process.service,
        "version": process.version,
        "is_second": process.is_next,
        "pid": process.pid,
        "resources": [asdict(resource) for resource in each.resources],
    }


def _rows(each: "Figures") -> list[tuple[str, ...]]:
    process = each.process
    name = process.app if process.service == process.app else f"{process.app}/{process.service}"
    if process.is_next:
        name += " (new version)"
    return [
        (
            name,
            _TITLES[one.name],
            _text(one, one.held),
            _text(one, one.maximum),
            _text(one, one.limit),
            "-" if one.failures is None else str(one.failures),
        )
        for one in each.resources
    ]


def _text(resource: "Resource", value: float | None) -> str:
    if value is None:
        return "-"
    if resource.name == "memory_bytes":
        return size(int(value))
    if resource.name == "cpu_seconds":
        return f"{value:.2f} s"
    return str(int(value))
