"""Stretches of files: what is asked for covers what is wanted, and what is kept is just that."""

from hypothesis import given
from hypothesis import strategies as st

from appbundle.repository.transports.stretches import behind, cut, join, split
from appbundle.repository.transports.transport import Stretch

CONTENT = bytes(range(256)) * 2


@st.composite
def stretches(draw: st.DrawFn) -> list[Stretch]:
    """Ascending ones that do not overlap; neighbours may touch."""
    marks = sorted(draw(st.sets(st.integers(0, len(CONTENT)), min_size=2, max_size=12)))
    pairs = zip(marks, marks[1:], strict=False)
    return [Stretch(a, b - a) for a, b in pairs if draw(st.booleans())] or [Stretch(0, 1)]


def bytes_of(places: list[Stretch]) -> bytes:
    """What a file has there."""
    return b"".join(CONTENT[each.start : each.end] for each in places)


@given(stretches(), st.integers(0, 40), st.integers(1, 60), st.integers(1, 30))
def test_what_is_asked_for_gives_what_is_wanted(
    wanted: list[Stretch], gap: int, size: int, piece: int
) -> None:
    """However stretches are joined and split, and whatever pieces come, the result is the same."""
    asked = split(join(wanted, gap=gap), size=size)
    pieces = (
        CONTENT[at : min(at + piece, each.end)]
        for each in asked
        for at in range(each.start, each.end, piece)
    )
    assert b"".join(cut(pieces, asked, wanted)) == bytes_of(wanted)
    assert all(each.size <= size for each in asked)


@given(stretches(), st.integers(0, 300))
def test_what_is_left_continues_what_was_taken(wanted: list[Stretch], count: int) -> None:
    """The bytes behind the first ones are those that are still missing."""
    assert bytes_of(behind(wanted, count)) == bytes_of(wanted)[count:]


def test_neighbours_are_joined() -> None:
    """Stretches with a small gap become one, those with a larger one do not."""
    near, far = Stretch(0, 10), Stretch(14, 6)
    assert join([near, far], gap=4) == [Stretch(0, 20)]
    assert join([near, far], gap=3) == [near, far]
