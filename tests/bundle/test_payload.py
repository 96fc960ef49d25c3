"""The payload: shapes, cuts and frames."""

import hashlib
import random

from hypothesis import given, settings
from hypothesis import strategies as st

from appbundle.bundle.manifest import File, Link
from appbundle.bundle.payload import FRAME_TARGET, MAX_FRAME_SIZE, cut, measure, plain_frames
from appbundle.names import Digest


def file(path: str, content: bytes, *, since: int = 1) -> File:
    """Describe a content."""
    return File(path, len(content), Digest(hashlib.sha256(content).hexdigest()), False, since)


SIZES = st.lists(
    st.tuples(
        st.sampled_from([0, 1, 511, 512, 513, FRAME_TARGET, MAX_FRAME_SIZE, MAX_FRAME_SIZE + 1])
        | st.integers(0, 3 << 20),
        st.integers(1, 3),
    ),
    max_size=6,
)


@settings(max_examples=40, deadline=None)
@given(SIZES)
def test_frames_add_up_and_hold_what_was_measured(sizes: list[tuple[int, int]]) -> None:
    """Frames are bounded, cover the stream, and each content lies where `measure` says."""
    contents = {f"f{i}": random.Random(i).randbytes(size) for i, (size, _) in enumerate(sizes)}
    ages = {f"f{i}": since for i, (_, since) in enumerate(sizes)}
    table = sorted(
        (file(path, content, since=ages[path]) for path, content in contents.items()),
        key=lambda each: (each.since, each.path),
    )
    links = [Link("link", "f0")]
    shape = measure(["d"], links, table)
    cuts = cut(shape, table)
    assert sum(cuts) == shape.size
    assert all(0 < size <= MAX_FRAME_SIZE for size in cuts)
    frames = list(
        plain_frames(
            directories=["d"],
            links=links,
            files=table,
            mtime=0,
            sizes=cuts,
            read=lambda each: [contents[each.path]],
        )
    )
    assert [len(frame) for frame in frames] == cuts
    stream = b"".join(frames)
    for each, start in zip(table, shape.starts, strict=True):
        assert stream[start : start + each.size] == contents[each.path]


def test_a_later_release_begins_a_frame() -> None:
    """What changed last stands in frames of its own, so that an upgrade can skip the others."""
    table = [file("a", b"1"), file("b", b"2"), file("a2", b"3", since=2)]
    shape = measure([], [], table)
    assert cut(shape, table) == [2048, 1024]
