"""What all cases of one run of the bench share."""

import os
import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import product
from contest import count_files, talk
from disk import warm
from measure import ChildFailed
from peers import PEERS, TAR, Peer, Release, prepared
from results import Value


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """What all cases of one run share.

    Args:
        workdir: Where images, archives and trees are.
        releases: Gives the release before and the one that is installed; unpacks them when that
            is first asked.
        given: The bundles that were named, if any were.
        rounds: How often everything is measured.
        names: Parts of the names of tools to compare with; None for all.
        peers: Those that take part in `install` and the like, all installed.
        apps: For the `scale` case: numbers of apps and of versions of each.
        large_bytes: For the `memory` case: size of the generated bundle.
        services: For the `density` case: how many.
        keepers: Who keeps services on nodes that are made; see `nodes`.
        control_plane: For the `node` case: the directory of its bundles.
    """

    workdir: Path
    releases: Callable[[], tuple[Release, Release]]
    given: tuple[Path, Path] | None
    rounds: int
    names: Sequence[str] | None
    peers: Sequence[Peer]
    apps: Sequence[tuple[int, int]]
    large_bytes: int
    services: int
    keepers: Sequence[str]
    control_plane: Path

    @property
    def old(self) -> Release:
        """The release before."""
        return self.releases()[0]

    @property
    def new(self) -> Release:
        """The release that is installed."""
        return self.releases()[1]

    def wants(self, name: str) -> bool:
        """Whether somebody asked for a tool, or for all."""
        return is_wanted(name, self.names)

    def tools(self, *releases: Release, among: Sequence[str] | None = None) -> list[Peer]:
        """Everyone who takes part: appb, the base of the ratios, the peers.

        Args:
            releases: Whose archives are made now; a peer that fails at it is named and left out.
            among: Only tools of these names.
        """
        others = [peer for peer in self.peers if peer is not TAR]
        tools = [product.contestant(self.workdir), TAR, *others]
        return [
            tool
            for tool in tools
            if (among is None or tool.name in among) and _prepares(tool, releases)
        ]

    def describe(self, release: Release) -> str:
        """A release's size in words."""
        size = warm([release.tree]) / 1e6
        return f"{release.version}, {count_files(release.tree):,} files, {size:.0f} MB"


def _prepares(tool: Peer, releases: Sequence[Release]) -> bool:
    if not all(tool.archive_of(release).exists() for release in releases):
        talk(f"{tool.name}: making archives")
    try:
        for release in releases:
            prepared(tool, release)
    except (ChildFailed, OSError) as error:
        talk(f"{tool.name}: no archive could be made: {error}")
        return False
    return True


def choose_peers(names: Sequence[str] | None) -> tuple[list[Peer], list[Peer]]:
    """Split the wanted peers into those that are installed and those that are not.

    Args:
        names: Parts of their names, or `none`; all peers if it is None.
    """
    wanted = [peer for peer in PEERS if is_wanted(peer.name, names)]
    return [p for p in wanted if p.available()], [p for p in wanted if not p.available()]


def is_wanted(name: str, names: Sequence[str] | None) -> bool:
    """Whether one of the names is part of a tool's, or nobody chose."""
    return names is None or any(each in name for each in names)


def machine() -> dict[str, Value]:
    """What a reader needs to know of the machine."""
    fields: dict[str, str] = {}
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        key, _, value = line.partition(":")
        fields.setdefault(key.strip(), value.strip())
    memory = Path("/proc/meminfo").read_text().split()[1]
    release = platform.freedesktop_os_release().get("PRETTY_NAME", "")
    return {
        "processor": fields.get("model name", platform.machine()),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gb": round(int(memory) / 1e6),
        "kernel": ".".join(platform.release().split(".")[:2]),
        "system": release,
        "python": platform.python_version(),
    }
