"""Calendar events of the embedded supervisor: when a timer is due, and what it does not know."""

import datetime
from collections.abc import Iterator

import pytest

from appbundle.errors import UnsupportedError
from appbundle.services.embedded import calendar

NOON = "2026-11-25 12:00:00"  # a Wednesday


def due(text: str, after: str) -> str:
    """When an event comes next."""
    moment = datetime.datetime.fromisoformat(after).timestamp()
    found = calendar.next_after(calendar.parse(text), moment)
    return str(datetime.datetime.fromtimestamp(found))


@pytest.fixture(autouse=True)
def utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The zone of the machine is UTC."""
    import time

    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(
    ("text", "after", "expected"),
    [
        ("hourly", NOON, "2026-11-25 13:00:00"),
        ("daily", NOON, "2026-11-26 00:00:00"),
        ("weekly", NOON, "2026-11-30 00:00:00"),
        ("monthly", NOON, "2026-12-01 00:00:00"),
        ("*:0/15", "2026-11-25 12:14:59.5", "2026-11-25 12:15:00"),
        ("*:0/15", "2026-11-25 12:15:00", "2026-11-25 12:30:00"),
        ("*-*-* 04:05:06", NOON, "2026-11-26 04:05:06"),
        ("*-*-31 00:00:00", NOON, "2026-12-31 00:00:00"),
        ("6,18:30", NOON, "2026-11-25 18:30:00"),
        ("*-*-29 00:00", "2027-02-01 00:00:00", "2027-03-29 00:00:00"),
    ],
)
def test_next_time(text: str, after: str, expected: str) -> None:
    """The next time is the first that matches and is later, as systemd-analyze calendar says."""
    assert due(text, after) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Mon",
        "Mon *-*-* 00:00",
        "2026-*-* 00:00",
        "24:00",
        "12",
        "*-*-0 00:00",
        "*:*/0",
        "1..5:00",
    ],
)
def test_other_events_are_refused(text: str) -> None:
    """What this backend does not know is an error before anything is started, never a guess."""
    with pytest.raises(UnsupportedError, match="does not know the calendar event"):
        calendar.parse(text)
