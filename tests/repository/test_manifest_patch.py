"""Manifest patches: small, exact, and bounded in what they unpack to."""

import os

import pytest

from appbundle.errors import CorruptError
from appbundle.repository.manifest_patch import apply_patch, make_patch

OLD = b"".join(
    b'["usr/lib/%d",%d,"%s",false,1],' % (n, n, os.urandom(16).hex().encode()) for n in range(2000)
)
NEW = OLD.replace(b'"usr/lib/77"', b'"usr/lib/seventy-seven"').replace(b"1999,", b"2999,")


def test_patch_gives_the_newer_manifest() -> None:
    """A small change is a small patch, and applying it gives every byte."""
    patch = make_patch(OLD, NEW)
    assert len(patch) < len(NEW) // 100
    assert apply_patch(patch, OLD, size=len(NEW)) == NEW


@pytest.mark.parametrize("old", [b"", b"[]", OLD])
def test_any_pair_has_a_patch(old: bytes) -> None:
    """Nothing in common, nothing at all, and everything in common are patches too."""
    assert apply_patch(make_patch(old, OLD), old, size=len(OLD)) == OLD


def test_more_than_was_signed_is_not_unpacked() -> None:
    """The signed size bounds what a patch may become."""
    patch = make_patch(OLD, NEW)
    for size in (len(NEW) - 1, len(NEW) + 1):
        with pytest.raises(CorruptError, match="signed size"):
            apply_patch(patch, OLD, size=size)


@pytest.mark.parametrize(
    "change", [lambda p: p[:-1], lambda p: p + b"x", lambda p: b"", lambda p: b"no zstd frame"]
)
def test_what_is_no_patch_is_refused(change: object) -> None:
    """Cut short, followed by something, empty, or something else."""
    assert callable(change)
    with pytest.raises(CorruptError, match="does not unpack"):
        apply_patch(change(make_patch(OLD, NEW)), OLD, size=len(NEW))
