"""`appb diff`."""

import click

from appbundle.cli import complete, shapes
from appbundle.cli.session import Session, table
from appbundle.cli.words import size
from appbundle.flows.describe import GenerationDiff, VersionDiff


@click.command(name="diff")
@click.argument("first", metavar="A", shell_complete=complete.anything_or_file)
@click.argument("second", metavar="B", shell_complete=complete.anything_or_file)
@click.pass_obj
def diff_command(session: Session, first: str, second: str) -> None:
    """Show what differs between two versions or two generations.

    A and B are generation numbers, or APP@VERSION, or bundle files.

    \b
    Examples:
      appb diff 3 4
      appb diff nova-api@33.0.2 nova-api@34.0.0
    """
    from appbundle.flows import describe

    found = describe.diff(session.context(), first, second)
    match found:
        case GenerationDiff():
            _show_generations(session, found)
        case VersionDiff():
            _show_versions(session, found)


def _show_generations(session: Session, found: GenerationDiff) -> None:
    document = {
        "before": found.before,
        "after": found.after,
        "apps": [{"name": n, "before": b, "after": a} for n, b, a in found.apps],
        "settings": shapes.settings(found.settings),
    }
    rows = [(str(name), before or "-", after or "-") for name, before, after in found.apps]
    rows += [
        (f"{each.app} {each.name}", _value(each.before), _value(each.after))
        for each in found.settings
    ]
    headings = ("app", f"in {found.before}", f"in {found.after}")
    session.result(document, table(headings, rows) if rows else "the same versions and settings")


def _value(value: str | None) -> str:
    return "(default)" if value is None else value


def _show_versions(session: Session, found: VersionDiff) -> None:
    document = {
        "name": found.name,
        "before": found.before,
        "after": found.after,
        "fields": [{"field": f, "before": b, "after": a} for f, b, a in found.fields],
        "files": [
            {
                "path": each.path,
                "before": each.before,
                "after": each.after,
                "size_change": each.size_change,
            }
            for each in found.files
        ],
    }
    lines = [f"{field}: {before} → {after}" for field, before, after in found.fields]
    rows = []
    for each in found.files:
        mark = "+" if each.before is None else "-" if each.after is None else "~"
        what = each.after or each.before or ""
        if each.before and each.after:
            same = each.before == each.after
            what = f"{what}, other content" if same else f"{each.before} → {each.after}"
        rows.append((mark, each.path, what))
    if rows:
        lines.append(table(("", "path", "what"), rows))
    grown = sum(each.size_change for each in found.files)
    sign = "+" if grown >= 0 else "-"
    lines.append(f"{len(rows)} entries differ, {sign}{size(abs(grown))}")
    session.result(document, "\n".join(lines))
