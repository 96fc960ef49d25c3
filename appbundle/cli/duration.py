"""Durations on the command line: `60s`, `12h`, `30d`."""

import re
from typing import Any

import click

_UNITS = {"s": 1, "min": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400}


class Duration(click.ParamType[int]):
    """A duration: a number with s, min, h, d or w; seconds."""

    name = "TIME"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Read `30d`; 0 needs no unit."""
        if isinstance(value, int):
            return value
        match = re.fullmatch(r"(\d{1,9})(s|min|h|d|w)", value, re.ASCII)
        if match is None and value != "0":
            self.fail(f"{value!r} is not a duration such as 12h, 30d or 4w", param, ctx)
        return int(match[1]) * _UNITS[match[2]] if match else 0
