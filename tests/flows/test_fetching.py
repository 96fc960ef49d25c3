"""Installing from a repository's file: what is missing is fetched; wrong bytes change nothing."""

import hashlib
import random
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import pytest

from appbundle.bundle import rules
from appbundle.bundle.container import END_FRAME
from appbundle.errors import CorruptError, DowngradeError
from appbundle.flows import authenticity, install
from appbundle.flows.origin import Origin, Reading
from appbundle.names import AppName, Digest, Version
from appbundle.repository.bundle import RemoteBundle
from appbundle.repository.manifest_patch import make_patch
from appbundle.repository.release import Patch, Release, digest_prefix
from appbundle.repository.transports.transport import Stretch
from appbundle.store import manifests
from tests.bundles import Draft, File, Node, Tree, draft, make_node, new_key
from tests.repository.server import Lie, Memory

HEAD = 9 + 2048
FRAME_BYTES = 20 << 10
NAMES = tuple(f"f{number}" for number in range(10))


def release(number: int, *changed: int) -> Draft:
    """A release of ten files, each in a frame of its own; some differ from the first release's."""
    tree: Tree = {
        name: File(random.Random(f"{name} {number if n in changed else 0}").randbytes(FRAME_BYTES))
        for n, name in enumerate(NAMES)
    }
    made = draft(tree, version=f"{number}.0", release=100 + number)
    for index in range(len(NAMES)):
        made.change_file(index, since=index + 1)
    return made.with_frames()


@dataclass(slots=True)
class Published:
    """A release in a repository.

    Args:
        made: What it is.
        content: The file.
    """

    made: Draft
    content: bytes

    @property
    def raw(self) -> bytes:
        """The manifest's JSON."""
        return rules.encode_manifest(self.made.manifest)

    @property
    def digest(self) -> Digest:
        """The bundle's identity."""
        return Digest(hashlib.sha256(self.raw).hexdigest())

    def release(self, patch: Patch | None = None) -> Release:
        """What the repository says of it."""
        return Release(
            app=AppName("web"),
            version=Version(self.made.manifest.version),
            release=self.made.manifest.release,
            digest=self.digest,
            size=len(self.content),
            sha256=Digest(hashlib.sha256(self.content).hexdigest()),
            patch=patch,
        )

    def server(self, lie: Lie | None = None, more: Mapping[str, bytes] = {}) -> Memory:
        """One of its mirrors; it lies, if so, in the payload."""
        files = {self.release().path: self.content, **more}
        return Memory(files, lie=lie, lie_from=self.frame(0).start)

    def frame(self, index: int) -> Stretch:
        """Where a frame is in the file."""
        sizes = [frame.compressed_size for frame in self.made.manifest.frames]
        start = len(self.content) - len(END_FRAME) - sum(sizes[index:])
        return Stretch(start, sizes[index])

    def origin(
        self, node: Node, *servers: Memory, patch: Patch | None = None, old: bytes | None = None
    ) -> Origin:
        """What installing it from these mirrors begins with."""

        def reading(server: Memory) -> Reading:
            return lambda: nullcontext(
                RemoteBundle(server, self.release(patch), title="web", recall=lambda _: old)
            )

        return Origin(
            policy=authenticity.policies(node.layout),
            readings=tuple(map(reading, servers)),
            digest=self.digest,
        )


@pytest.fixture
def node(tmp_path: Path) -> Node:
    """A node."""
    return make_node(tmp_path, new_key())


def published(node: Node, number: int, *changed: int) -> Published:
    """Publish a release, signed by the node's key."""
    made = release(number, *changed)
    return Published(made, made.encode(node.key))


def asked_of_payload(server: Memory, of: Published) -> list[Stretch]:
    """Which parts of the payload a server was asked for."""
    return [each for _, each in server.asked if each.start >= of.frame(0).start]


def fetch(node: Node, origin: Origin) -> install.Installed:
    """Install it."""
    return install.install_from(node.context, [origin])


def test_only_frames_with_something_missing_are_fetched(node: Node) -> None:
    """An upgrade asks for the changed contents' frames, adjacent ones at once, and for no other."""
    one = published(node, 1)
    fetch(node, one.origin(node, one.server()))
    two = published(node, 2, 2, 8, 9)
    server = two.server()
    done = fetch(node, two.origin(node, server))
    tail = Stretch(two.frame(8).start, two.frame(8).size + two.frame(9).size)
    assert asked_of_payload(server, two) == [two.frame(2), tail]
    assert node.tree("2.0") == {**node.tree("1.0"), **_changed(two, 2, 8, 9)}
    assert done.cost.fetched_bytes == sum(each.size for _, each in server.asked)
    assert done.cost.whole_bytes == len(two.content)


def _changed(of: Published, *numbers: int) -> dict[str, File]:
    return {NAMES[n]: File(of.made.contents[n]) for n in numbers}


def test_nearly_adjacent_frames_are_asked_for_at_once(node: Node) -> None:
    """A small frame between two needed ones costs less than a request; it is checked too."""
    one, two = published(node, 1), published(node, 2, 2, 4)
    fetch(node, one.origin(node, one.server()))
    server = two.server()
    fetch(node, two.origin(node, server))
    first, last = two.frame(2), two.frame(4)
    assert asked_of_payload(server, two) == [Stretch(first.start, last.end - first.start)]
    assert node.tree("2.0") == {**node.tree("1.0"), **_changed(two, 2, 4)}


def test_nothing_missing_fetches_no_frame(node: Node) -> None:
    """A release that only removes or renames is its manifest."""
    one, two = published(node, 1), published(node, 2)
    fetch(node, one.origin(node, one.server()))
    server = two.server()
    fetch(node, two.origin(node, server))
    assert asked_of_payload(server, two) == []
    assert node.tree("2.0") == node.tree("1.0")


def test_dry_run_says_what_would_be_fetched(node: Node) -> None:
    """Before anything is written, the bytes are those that are fetched then."""
    one, two = published(node, 1), published(node, 2, 2, 8, 9)
    fetch(node, one.origin(node, one.server()))
    before = node.snapshot()
    planned = install.plan_from(node.context, [two.origin(node, two.server())])
    assert node.snapshot() == before
    assert planned.cost == fetch(node, two.origin(node, two.server())).cost


def test_files_are_written_while_others_are_still_fetched(node: Node) -> None:
    """The download and the unpacking overlap: only so many frames wait in memory."""
    one = published(node, 1)
    stages, seen = node.layout.stage, set[str]()

    def look(pieces: Iterator[bytes]) -> Iterator[bytes]:
        for piece in pieces:
            seen.update(path.name for path in stages.glob("*/*/f*"))
            yield piece

    fetch(node, one.origin(node, one.server(look)))
    assert NAMES[0] in seen
    assert NAMES[-1] not in seen


# The manifest's patch


def patched(node: Node, **changes: object) -> tuple[Published, Memory, Origin]:
    """A second release whose manifest's patch is served; the node has the first."""
    one, two = published(node, 1), published(node, 2, 3)
    fetch(node, one.origin(node, one.server()))
    patch = make_patch(one.raw, two.raw)
    described = Patch(
        size=len(patch),
        sha256=Digest(hashlib.sha256(patch).hexdigest()),
        previous=digest_prefix(one.digest),
    )
    served = changes.get("served", patch)
    assert isinstance(served, bytes)
    server = two.server(more={two.release(described).patch_path: served})
    old = changes.get("old", one.raw)
    assert old is None or isinstance(old, bytes)
    return two, server, two.origin(node, server, patch=described, old=old)


def asked_for_manifest(server: Memory, of: Published) -> bool:
    """Whether the manifest frame was fetched."""
    return any(HEAD <= each.start < of.frame(0).start for _, each in server.asked)


def test_manifest_is_made_from_its_patch(node: Node) -> None:
    """With the older manifest at hand the patch is enough: the frame is the one that was signed."""
    two, server, origin = patched(node)
    fetch(node, origin)
    assert len(server.read_paths) == 1
    assert not asked_for_manifest(server, two)
    papers = manifests.read_papers(node.layout, AppName("web"), Version("2.0"))
    assert papers.manifest_frame in two.content
    assert node.tree("2.0")["f3"] == File(two.made.contents[3])


@pytest.mark.parametrize(
    "changes", [{"served": b"anything"}, {"old": None}, {"old": b"another manifest"}]
)
def test_manifest_is_fetched_where_its_patch_does_not_help(
    node: Node, changes: dict[str, object]
) -> None:
    """A wrong patch, or a node without the older manifest, costs the frame and nothing else."""
    two, server, origin = patched(node, **changes)
    fetch(node, origin)
    assert asked_for_manifest(server, two)
    assert node.tree("2.0")["f3"] == File(two.made.contents[3])


# Servers that lie


def flipped(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """One bit of one byte is another."""
    for number, piece in enumerate(pieces):
        yield bytes([piece[0] ^ 1]) + piece[1:] if number == 25 else piece


def cut_short(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """The end is missing."""
    whole = b"".join(pieces)
    yield whole[:-1]


def too_long(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Something follows."""
    yield from pieces
    yield b"x"


def swapped(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Two frames, in each other's place."""
    whole = b"".join(pieces)
    half = len(whole) // 2
    yield whole[half:] + whole[:half]


def nothing(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """No byte at all."""
    return iter(())


LIES = (flipped, cut_short, too_long, swapped, nothing)


@pytest.mark.parametrize("lie", LIES)
def test_wrong_bytes_change_nothing(node: Node, lie: Lie) -> None:
    """Whatever a server gives instead of the signed bytes, the node stays as it was."""
    one, two = published(node, 1), published(node, 2, 1, 2, 3)
    fetch(node, one.origin(node, one.server()))
    before = node.snapshot()
    with pytest.raises(CorruptError):
        fetch(node, two.origin(node, two.server(lie)))
    assert node.snapshot() == before


@pytest.mark.parametrize("lie", LIES)
def test_another_mirror_is_tried(node: Node, lie: Lie) -> None:
    """One honest mirror is enough."""
    two = published(node, 2, 1, 2, 3)
    fetch(node, two.origin(node, two.server(lie), two.server()))
    assert node.tree("2.0") == {name: File(two.made.contents[n]) for n, name in enumerate(NAMES)}


def test_another_bundle_by_the_same_key_is_refused(node: Node) -> None:
    """A signature is not enough: it must be the bundle that the repository names."""
    one, two = published(node, 1), published(node, 2)
    fetch(node, one.origin(node, one.server()))
    before = node.snapshot()
    with pytest.raises(CorruptError, match="another bundle than the repository says"):
        fetch(node, two.origin(node, Memory({two.release().path: one.content})))
    assert node.snapshot() == before


def test_older_release_is_no_fault_of_a_mirror(node: Node) -> None:
    """A downgrade is refused at once: other mirrors have the same."""
    one, two = published(node, 1), published(node, 2)
    fetch(node, two.origin(node, two.server()))
    second = one.server()
    with pytest.raises(DowngradeError):
        fetch(node, one.origin(node, one.server(), second))
    assert second.asked == []
