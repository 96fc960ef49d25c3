"""Points in time on the command line, in UTC."""

from datetime import UTC, datetime

import click

MOMENT = click.DateTime(["%Y-%m-%d", "%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M:%SZ"])
"""`2031-12-31`, or `2031-12-31T23:59:59Z`."""


def seconds(moment: datetime | None) -> int | None:
    """Seconds since the epoch of what was typed."""
    return None if moment is None else int(moment.replace(tzinfo=UTC).timestamp())
