"""What was measured: tables of rows, shown to people, and written as JSON."""

import json
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

Value = str | float | int | None
Row = dict[str, Value | list[float]]


@dataclass(frozen=True, slots=True)
class Column:
    """A column: the key in the rows, the heading, and the unit that says how to write values."""

    key: str
    heading: str
    unit: str = ""


@dataclass(slots=True, kw_only=True)
class Table:
    """One table.

    Args:
        name: For programs: `install`.
        title: For people.
        columns: What is shown; rows may hold more, which is in the JSON only.
        rows: Values by the columns' keys; the first column names the row.
        notes: Sentences below the table.
    """

    name: str
    title: str
    columns: Sequence[Column]
    rows: list[Row] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def median(values: Sequence[float]) -> float:
    """The median of at least one value."""
    return statistics.median(values)


_UNITS: Mapping[str, Callable[[float], str]] = {
    "s": lambda value: f"{value:.2f}",
    "ms": lambda value: f"{value * 1000:.1f}",
    "ratio": lambda value: f"{value:.2f}",
    "MB": lambda value: f"{value / 1e6:.1f}" if value < 100e6 else f"{value / 1e6:.0f}",
    "": lambda value: f"{value:,}",
}


def text_of(value: object, unit: str) -> str:
    """Write one cell."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    assert isinstance(value, int | float)
    return _UNITS[unit](value)


def show(tables: Sequence[Table]) -> None:
    """Print tables to stdout: drawn on a terminal, else as Markdown that is readable as it is."""
    if sys.stdout.isatty():
        _draw(tables)
    else:
        print(markdown(tables), end="")


def markdown(tables: Sequence[Table]) -> str:
    """Write tables as aligned Markdown."""
    return "\n".join(map(_markdown, tables))


def _markdown(table: Table) -> str:
    cells = [[c.heading for c in table.columns]]
    cells += [[text_of(row.get(c.key), c.unit) for c in table.columns] for row in table.rows]
    widths = [max(len(line[i]) for line in cells) for i in range(len(table.columns))]
    lines = []
    for number, line in enumerate(cells):
        padded = [line[0].ljust(widths[0])]
        padded += [cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True)]
        lines.append(f"| {' | '.join(padded)} |")
        if number == 0:
            rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
            lines.append(f"| {' | '.join(rule)} |")
    notes = "".join(f"\n- {note}" for note in table.notes)
    return f"### {table.title}\n\n" + "\n".join(lines) + "\n" + (notes + "\n" if notes else "")


def _draw(tables: Sequence[Table]) -> None:
    import rich
    import rich.table

    for table in tables:
        drawn = rich.table.Table(title=table.title, title_justify="left")
        for number, column in enumerate(table.columns):
            drawn.add_column(column.heading, justify="right" if number else "left")
        for row in table.rows:
            drawn.add_row(*(text_of(row.get(c.key), c.unit) for c in table.columns))
        rich.print(drawn)
        for note in table.notes:
            print(f"  - {note}")


def write_json(path: Path, machine: Mapping[str, Value], tables: Sequence[Table]) -> None:
    """Write everything that was measured, single values included."""
    document = {"machine": machine, "tables": [asdict(table) for table in tables]}
    path.write_text(json.dumps(document, indent=1) + "\n")


def read_json(path: Path) -> list[Table]:
    """Read tables that `write_json` wrote."""
    tables = []
    for raw in json.loads(path.read_text())["tables"]:
        raw["columns"] = [Column(**column) for column in raw["columns"]]
        tables.append(Table(**raw))
    return tables
