"""Arithmetic on stretches of a file: what to ask for, and what to keep of what comes."""

from collections.abc import Iterable, Iterator, Sequence

from appbundle.repository.transports.transport import Stretch


def span_of(stretches: Sequence[Stretch]) -> Stretch:
    """From the first to the last byte."""
    return Stretch(stretches[0].start, stretches[-1].end - stretches[0].start)


def join(stretches: Iterable[Stretch], *, gap: int) -> list[Stretch]:
    """Make one of neighbours that are not further apart than so many bytes."""
    joined: list[Stretch] = []
    for each in stretches:
        if joined and each.start - joined[-1].end <= gap:
            joined[-1] = Stretch(joined[-1].start, each.end - joined[-1].start)
        else:
            joined.append(each)
    return joined


def split(stretches: Iterable[Stretch], *, size: int) -> list[Stretch]:
    """Make several of those that are longer than so many bytes."""
    return [
        Stretch(at, min(size, each.end - at))
        for each in stretches
        for at in range(each.start, each.end, size)
    ]


def behind(stretches: Iterable[Stretch], count: int) -> list[Stretch]:
    """What is left of stretches after their first bytes."""
    left: list[Stretch] = []
    for each in stretches:
        skipped = min(count, each.size)
        count -= skipped
        if skipped < each.size:
            left.append(Stretch(each.start + skipped, each.size - skipped))
    return left


def cut(
    pieces: Iterable[bytes], read: Iterable[Stretch], wanted: Sequence[Stretch]
) -> Iterator[bytes]:
    """Keep what is wanted of what is read.

    Args:
        pieces: The bytes of all that is read; none of them reaches from one stretch of `read`
            into the next.
        read: Ascending; covers what is wanted.
        wanted: Ascending.
    """
    left, places = list(wanted), iter(read)
    at = end = 0
    for piece in pieces:
        if at == end:
            place = next(places)
            at, end = place.start, place.end
        here = Stretch(at, len(piece))
        at = here.end
        while left and left[0].start < here.end:
            first, last = max(left[0].start, here.start), min(left[0].end, here.end)
            yield piece[first - here.start : last - here.start]
            if left[0].end > here.end:
                break
            del left[0]
