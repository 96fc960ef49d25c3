"""What an installation takes: bytes to write, and bytes to fetch."""

from dataclasses import dataclass

from appbundle.bundle.manifest import Manifest
from appbundle.layout import Layout
from appbundle.repository.bundle import RemoteBundle
from appbundle.store.lack import find_lack
from appbundle.store.source import Source
from appbundle.store.stage import Staged


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What an installation took, or would take.

    Args:
        new_bytes: Of content that the node did not have before.
        new_files: Files with such content.
        fetched_bytes: From repositories, without their metadata.
        whole_bytes: What fetching those bundles whole would take.
    """

    new_bytes: int = 0
    new_files: int = 0
    fetched_bytes: int = 0
    whole_bytes: int = 0

    def __add__(self, other: "Cost") -> "Cost":
        """The cost of both."""
        return Cost(
            new_bytes=self.new_bytes + other.new_bytes,
            new_files=self.new_files + other.new_files,
            fetched_bytes=self.fetched_bytes + other.fetched_bytes,
            whole_bytes=self.whole_bytes + other.whole_bytes,
        )

    @property
    def saved_bytes(self) -> int:
        """What need not be fetched because it is here."""
        return max(0, self.whole_bytes - self.fetched_bytes)


def of_staged(source: Source, staged: Staged) -> Cost:
    """What staging a bundle took."""
    fetched, whole = 0, 0
    if isinstance(source, RemoteBundle):
        fetched, whole = source.fetched_bytes, source.whole_bytes
    return Cost(
        new_bytes=staged.new_bytes,
        new_files=staged.new_files,
        fetched_bytes=fetched,
        whole_bytes=whole,
    )


def find_cost(layout: Layout, source: Source, manifest: Manifest, given: set[str]) -> Cost:
    """What staging a bundle would take; its manifest was read from the source.

    Args:
        given: As in `find_lack`.
    """
    lack = find_lack(layout, manifest, given)
    fetched, whole = 0, 0
    if isinstance(source, RemoteBundle):
        fetched = source.fetched_bytes + source.cost(manifest, lack.frames)
        whole = source.whole_bytes
    return Cost(
        new_bytes=lack.size_bytes,
        new_files=lack.files,
        fetched_bytes=fetched,
        whole_bytes=whole,
    )
