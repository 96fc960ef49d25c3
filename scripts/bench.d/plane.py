"""A directory of bundles: all apps of one node, and the next releases of some of them."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import product
from peers import Release

from bundles import read_manifest


@dataclass(frozen=True, slots=True, kw_only=True)
class Plane:
    """The apps of a node.

    Args:
        first: The oldest release of each app.
        second: The one that follows, of each app that has one.
    """

    first: Sequence[Release]
    second: Sequence[Release]

    @property
    def names(self) -> list[str]:
        """Of the apps."""
        return [release.name for release in self.first]

    @property
    def bundles(self) -> list[Path]:
        """That are installed first."""
        return [release.bundle for release in self.first]


def bundles_in(directory: Path) -> list[Path]:
    """The bundle files of a directory."""
    return sorted(directory.glob("*.bundle"))


def read_plane(directory: Path, workdir: Path) -> Plane:
    """Take all bundles of a directory to measure with; at most two releases of an app."""
    found: dict[str, dict[int, Path]] = defaultdict(dict)
    for path in bundles_in(directory):
        manifest = read_manifest(path)
        found[manifest.name][manifest.release] = path
    releases = [
        [product.release_of_bundle(path, workdir) for _, path in sorted(paths.items())[:2]]
        for _, paths in sorted(found.items())
    ]
    return Plane(
        first=[each[0] for each in releases],
        second=[each[1] for each in releases if len(each) == 2],
    )
