"""When a timer is due: the part of systemd's calendar events that this backend knows.

`hourly`, `daily`, `weekly`, `monthly`, or `[*-*-*|*-*-DD] HH:MM[:SS]`, in which each number may be
`*`, `N`, `N,M` or `N/STEP`. systemd.time(7), CALENDAR EVENTS.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterator
from dataclasses import dataclass

from appbundle.errors import UnsupportedError
from appbundle.names import escape

_WORDS = {
    "minutely": "*-*-* *:*:00",
    "hourly": "*-*-* *:00:00",
    "daily": "*-*-* 00:00:00",
    "monthly": "*-*-01 00:00:00",
}
_PART = re.compile(r"(\*|\d{1,2})(?:/(\d{1,2}))?", re.ASCII)
_MONDAY = frozenset({0})
_ANY_DAY = frozenset(range(7))
_DAYS_AHEAD = 366


@dataclass(frozen=True, slots=True, kw_only=True)
class Calendar:
    """A calendar event; every part is the set of what matches, in the zone of the machine."""

    weekdays: frozenset[int]
    days: frozenset[int]
    hours: frozenset[int]
    minutes: frozenset[int]
    seconds: frozenset[int]


def parse(text: str) -> Calendar:
    """Read a calendar event.

    Raises:
        UnsupportedError: systemd may know it, but this backend does not.
    """
    weekdays = _MONDAY if text == "weekly" else _ANY_DAY
    words = ("daily" if text == "weekly" else text).split()
    words = _WORDS[words[0]].split() if len(words) == 1 and words[0] in _WORDS else words
    date, time = ["*-*-*", *(words or [""])][-2:]
    year_month, _, day = date.rpartition("-")
    parts = time.split(":")
    if len(words) > 2 or year_month != "*-*" or not 2 <= len(parts) <= 3:
        raise _unknown(text)
    hours, minutes, seconds = [*parts, "00"][:3]
    return Calendar(
        weekdays=weekdays,
        days=_numbers(day, 1, 31, text),
        hours=_numbers(hours, 0, 23, text),
        minutes=_numbers(minutes, 0, 59, text),
        seconds=_numbers(seconds, 0, 59, text),
    )


def next_after(calendar: Calendar, moment: float) -> float:
    """The first time that matches after a moment; both are seconds since the epoch.

    Returns:
        Infinity if nothing matches within a year.
    """
    today = datetime.datetime.fromtimestamp(moment).date()
    for ahead in range(_DAYS_AHEAD):
        day = today + datetime.timedelta(days=ahead)
        if day.day in calendar.days and day.weekday() in calendar.weekdays:
            for time in _times(calendar):
                found = datetime.datetime.combine(day, time).timestamp()
                if found > moment:
                    return found
    return float("inf")


def _times(calendar: Calendar) -> Iterator[datetime.time]:
    for hour in sorted(calendar.hours):
        for minute in sorted(calendar.minutes):
            for second in sorted(calendar.seconds):
                yield datetime.time(hour, minute, second)


def _numbers(text: str, least: int, most: int, whole: str) -> frozenset[int]:
    found: set[int] = set()
    for part in text.split(","):
        match = _PART.fullmatch(part)
        if match is None:
            raise _unknown(whole)
        first = least if match[1] == "*" else int(match[1])
        step = int(match[2] or 0)
        if not least <= first <= most or (match[2] and not step):
            raise _unknown(whole)
        if match[1] == "*" or step:
            found |= set(range(first, most + 1, step or 1))
        else:
            found.add(first)
    return frozenset(found)


def _unknown(text: str) -> UnsupportedError:
    return UnsupportedError(
        f"the embedded supervisor does not know the calendar event {escape(text)}",
        hint="it knows hourly, daily, weekly, monthly, and [*-*-*|*-*-DD] HH:MM[:SS] "
        "with *, N, N,M or N/STEP; systemd knows more",
    )
