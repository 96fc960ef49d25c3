"""Strategies: any tree that a bundle can hold."""

import os
import random
from typing import TypeAlias

from hypothesis import strategies as st

from appbundle.bundle import manifest, rules
from tests.bundles import Dir, Entry, File, Link

Tree: TypeAlias = dict[str, Entry]

_BIDI = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
_MAX_DEPTH = 64

FRAME_TARGET = 2048
MAX_FRAME_SIZE = 4096
"""Frames of this size instead of 2 and 4 MiB have all their bounds in trees of some kilobytes."""

_BOUNDS = [0, 1, 511, 512, 513, 1023, 1024, 1025, 1535, 1536, 1537]
_BOUNDS += [b + d for b in (FRAME_TARGET, MAX_FRAME_SIZE) for d in (-513, -512, -1, 0, 1, 512)]


def _fits(name: str) -> bool:
    return name not in (".", "..") and len(name.encode()) <= 255


characters = st.characters(
    exclude_categories=("Cc", "Cs", "Zl", "Zp"), exclude_characters=f"/{_BIDI}"
)
names = (
    st.sampled_from(
        ["a", "b", "-rf", " ", "a b", "\\", "\\n", "'\"", "*", "~", "#", "é", "e\u0301"]
    )
    | st.text(characters, min_size=1, max_size=6)
    | st.builds(
        lambda letter, count: letter * count, characters, st.sampled_from([63, 99, 100, 101])
    )
).filter(_fits)
"""What may be a name; some are so long that a tar header cannot hold them."""

contents = st.builds(
    lambda size, seed: random.Random(seed).randbytes(size),
    st.sampled_from(_BOUNDS) | st.integers(0, 3 * MAX_FRAME_SIZE),
    st.integers(0, 2),
)
"""Sizes around the bounds of blocks and frames; few seeds, so that contents are met again."""

_KINDS = st.sampled_from(["directory", "file", "file", "file", "link", "outward"])


@st.composite
def trees(draw: st.DrawFn, *, max_entries: int = 16) -> Tree:
    """Any tree, with directories within each other up to the limit."""
    tree: Tree = {}
    homes = [""]
    for depth in range(draw(st.sampled_from([0, 0, 0, 3, _MAX_DEPTH - 1]))):
        homes.append(f"{homes[-1]}/d" if depth else "d")
        tree[homes[-1]] = Dir()
    for _ in range(draw(st.integers(0, max_entries))):
        home = draw(st.sampled_from(homes) | st.just(homes[-1]))
        name = draw(names)
        path = f"{home}/{name}" if home else name
        if path in tree or path == ".bundle" or path.count("/") >= _MAX_DEPTH:
            continue
        tree[path] = draw(_entries(path, tree))
        if tree[path] == Dir():
            homes.append(path)
    return tree


@st.composite
def _entries(draw: st.DrawFn, path: str, tree: Tree) -> Entry:
    match draw(_KINDS):
        case "directory":
            return Dir()
        case "file":
            return File(draw(contents), draw(st.booleans()))
        case "link":
            inside = st.sampled_from(sorted(tree)) if tree else st.just(path)
            return Link(os.path.relpath(draw(inside), os.path.dirname(path) or "."))
        case _:
            return Link("/" + draw(names))


@st.composite
def successors(draw: st.DrawFn, before: Tree) -> Tree:
    """A tree that has something in common with another one."""
    kept = draw(st.sets(st.sampled_from(sorted(before)))) if before else set()
    after: Tree = {}
    for path in sorted(before):
        parent = os.path.dirname(path)
        if path in kept and (not parent or after.get(parent) == Dir()):
            after[path] = before[path]
    for path, entry in draw(trees(max_entries=4)).items():
        parent = os.path.dirname(path)
        if path not in after and (not parent or after.get(parent) == Dir()):
            after[path] = entry
    return after


def outward(tree: Tree) -> tuple[str, ...]:
    """The links of a tree that lead out of it, as a manifest declares them."""
    targets = {path: entry.target for path, entry in tree.items() if isinstance(entry, Link)}
    links = (manifest.Link(path, target) for path, target in targets.items())
    return tuple(sorted(link.path for link in links if rules.link_leaves(link, targets)))
