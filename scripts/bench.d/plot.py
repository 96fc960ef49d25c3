"""The README's plot: bars of seconds, drawn as SVG that follows the reader's light or dark page."""

from collections.abc import Sequence
from html import escape
from pathlib import Path

from results import Row, Table

_WIDTH = 760
_LABEL = 210
_BAR, _GAP, _HEAD = 18, 8, 44
_STYLE = """
  text { font: 13px system-ui, sans-serif; fill: #24292f }
  .title { font-weight: 600; font-size: 15px }
  .number { font-variant-numeric: tabular-nums }
  .quiet { fill: #57606a }
  .bar { fill: #b6bec8 }
  .own { fill: #2563eb }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3 }
    .quiet { fill: #9aa4af }
    .bar { fill: #4b5563 }
    .own { fill: #60a5fa }
  }
"""


def draw(path: Path, tables: Sequence[Table]) -> None:
    """Draw the tables `install` and `upgrade`, as far as they were measured.

    Raises:
        ValueError: Neither was.
    """
    shown = [table for table in tables if table.name in ("install", "upgrade") and table.rows]
    if not shown:
        raise ValueError("there is nothing to draw: measure install or upgrade")
    scale = max(_seconds(row) for table in shown for row in table.rows)
    parts, y = [], 8
    for table in shown:
        panel, height = _panel(table, y, scale)
        parts += panel
        y += height
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {y}" role="img">'
    described = ", ".join(escape(table.title) for table in shown)
    style = f"<title>{described}</title>\n<style>{_STYLE}</style>"
    path.write_text("\n".join([head, style, *parts, "</svg>\n"]))


def _panel(table: Table, top: int, scale: float) -> tuple[list[str], int]:
    legend = "seconds, median; in brackets the ratio to tar"
    parts = [
        f'<text class="title" x="8" y="{top + 18}">{escape(table.title)}</text>',
        f'<text class="quiet" x="8" y="{top + 36}">{legend}</text>',
    ]
    y = top + _HEAD
    for row in table.rows:
        name = str(row["name"])
        kind = "own" if name.startswith("appb") else "bar"
        width = max(2, round((_WIDTH - _LABEL - 110) * _seconds(row) / scale))
        middle = y + _BAR - 5
        ratio = f" ({float(str(row['ratio'])):.2f})" if row.get("ratio") else ""
        parts += [
            f'<text x="{_LABEL - 8}" y="{middle}" text-anchor="end">{escape(name)}</text>',
            f'<rect class="{kind}" x="{_LABEL}" y="{y}" width="{width}" height="{_BAR}" rx="2"/>',
            f'<text class="number" x="{_LABEL + width + 6}" y="{middle}">'
            f"{_seconds(row):.2f}{ratio}</text>",
        ]
        y += _BAR + _GAP
    return parts, y + 12 - top


def _seconds(row: Row) -> float:
    return float(str(row["seconds"]))
