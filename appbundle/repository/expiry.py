"""How long metadata are valid, and who makes them valid for longer."""

from datetime import UTC, datetime, timedelta

from tuf.api.metadata import Signed

DAYS = {"root": 730, "snapshot": 30, "timestamp": 30}
"""Days that new metadata are valid, by role."""
ROLE_DAYS = 365
"""The same for `targets` and for the roles of apps."""
ONLINE = ("snapshot", "timestamp", "catalog")
"""Roles that the online key signs; a timer makes them anew."""
SOON = timedelta(days=60)
"""What only people can sign is renewed, and warned of, so long before it expires."""
_HALF = timedelta(days=15)


def expires(role: str, now: int) -> datetime:
    """When metadata that are made now expire."""
    return at(now) + timedelta(days=DAYS.get(role, ROLE_DAYS))


def at(now: int) -> datetime:
    """Seconds since the epoch as TUF's metadata have them."""
    return datetime.fromtimestamp(now, UTC)


def ends_soon(role: str, signed: Signed, now: int) -> bool:
    """Whether it is time to make metadata anew: online ones at half of their time."""
    return signed.expires - at(now) < (_HALF if role in DAYS and role != "root" else SOON)


def remedy(role: str) -> str:
    """What the publisher runs when a role's metadata have expired."""
    return f"appb repo {'refresh DIR' if role in ONLINE else 'sign DIR --key KEY'}"
