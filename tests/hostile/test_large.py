"""Bundles past 2 and 4 GiB, and more repetitions of a content than an inode has links.

The large bundle is never in memory: its frames are one frame of noise with a number in it, whose
compressed form holds the noise as it is, so that the number can be put into both.
"""

import hashlib
import random
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from appbundle.build import encode
from appbundle.bundle import container, tar
from appbundle.bundle.manifest import File, Frame, Manifest
from appbundle.bundle.statement import Signed, encode_statement
from appbundle.errors import CorruptError
from appbundle.flows import remove, verify
from appbundle.names import Digest, parse_ref
from appbundle.trust import sshsig
from appbundle.trust.keys import PrivateKey
from tests.bundles import CREATED, Draft, Node, draft, make_node
from tests.bundles import File as Content
from tests.crash.disks import make_ext4, mounted, needs_disks
from tests.crash.support import memory_directory

pytestmark = pytest.mark.slow

FRAME_SIZE = 2 << 20
FRAMES_A_FILE = 1030
"""So that a file is past 2 GiB, and two of them past 4 GiB."""
SMALL = b"behind four gigabytes\n"
MAX_MEMORY = 150_000_000
"""Bytes that an installation may take, with all its processes."""
NEEDED = 9 << 30


@pytest.fixture(scope="module")
def space(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A directory with much room, in memory if that has it: the disk is not what is tested."""
    memory = Path("/dev/shm")
    place = memory if _has_room(memory) else tmp_path_factory.getbasetemp()
    if not _has_room(place):
        pytest.skip(f"needs {NEEDED >> 30} GiB of room")
    with TemporaryDirectory(prefix="appb-test-", dir=place) as name:
        yield Path(name)


def _has_room(place: Path) -> bool:
    if not place.is_dir() or shutil.disk_usage(place).free < NEEDED:
        return False
    if place != Path("/dev/shm"):
        return True
    lines = Path("/proc/meminfo").read_text().splitlines()
    (available,) = (int(line.split()[1]) for line in lines if line.startswith("MemAvailable"))
    return available << 10 > NEEDED + (2 << 30)


class Noise:
    """Frames that differ in a number; in any, plain and compressed bytes are at hand at once."""

    def __init__(self) -> None:
        self.plain = bytearray(random.Random(1).randbytes(FRAME_SIZE))
        self.compressed = bytearray(container.compress(bytes(self.plain), level=1))
        self._at = self.compressed.index(self.plain[:64])

    def set(self, number: int) -> None:
        """Become the frame of this number."""
        raw = number.to_bytes(8, "little")
        self.plain[:8] = raw
        self.compressed[self._at : self._at + 8] = raw


@dataclass(frozen=True)
class Large:
    """A bundle of two large files with one content, and a small one at the very end.

    Args:
        draft: All of it but the payload.
        key: Who signs.
        headers: The frames before the large files' contents.
        last: The last frame, with the small file.
    """

    draft: Draft
    key: PrivateKey
    headers: tuple[bytes, bytes]
    last: bytes

    def head(self, version: str) -> bytes:
        """All up to the payload."""
        return self.draft.change(version=version).encode(self.key)

    def pieces(self, version: str) -> Iterator[bytes | bytearray]:
        """The file, piece by piece; each is good until the next one is asked for."""
        noise = Noise()
        yield self.head(version)
        for header in self.headers:
            yield header
            for number in range(FRAMES_A_FILE):
                noise.set(number)
                yield noise.compressed
        yield self.last + container.END_FRAME

    def frame_at(self, at: int) -> int:
        """The number of the frame that has a byte of version 1.0's file."""
        position = len(self.head("1.0"))
        for number, frame in enumerate(self.draft.manifest.frames):
            position += frame.compressed_size
            if at < position:
                return number
        raise AssertionError("past the payload")


def _frame(compressed: bytes | bytearray, size: int) -> Frame:
    return Frame(len(compressed), size, Digest(hashlib.sha256(compressed).hexdigest()))


@pytest.fixture(scope="module")
def large(key: PrivateKey) -> Large:
    """The bundle, still unwritten."""
    noise, content, frames = Noise(), hashlib.sha256(), []
    for number in range(FRAMES_A_FILE):
        noise.set(number)
        content.update(noise.plain)
        frames.append(_frame(noise.compressed, FRAME_SIZE))
    size = FRAMES_A_FILE * FRAME_SIZE
    table = (
        File("big", size, Digest(content.hexdigest()), False, 0),
        File("big-twin", size, Digest(content.hexdigest()), False, 0),
        File("small", len(SMALL), Digest(hashlib.sha256(SMALL).hexdigest()), False, 0),
    )
    plain = [tar.file_header(f.path, size=f.size, executable=False, mtime=CREATED) for f in table]
    plain[2] += SMALL + bytes(tar.padding(len(SMALL)))
    packed = [container.compress(each, level=1) for each in plain]
    headers = [_frame(*each) for each in zip(packed, map(len, plain), strict=True)]
    made = Draft(
        manifest=Manifest(
            format=1,
            name="web",
            version="1.0",
            release=1,
            created=CREATED,
            files=table,
            frames=(headers[0], *frames, headers[1], *frames, headers[2]),
        ),
        end=b"",
    )
    return Large(made, key, (packed[0], packed[1]), packed[2])


@pytest.fixture(scope="module")
def file(large: Large, space: Path) -> Path:
    """The bundle as a file."""
    path = space / "large.bundle"
    with path.open("wb") as target:
        target.writelines(large.pieces("1.0"))
    assert path.stat().st_size > 4 << 30
    return path


class Memory(threading.Thread):
    """Watches how much memory a process and all below it take together."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self._pid = pid
        self._over = threading.Event()
        self.peak_bytes = 0

    def run(self) -> None:
        """Look again and again; pages that processes share count for each of them."""
        while not self._over.wait(0.03):
            total = sum(_memory_of(pid) for pid in (self._pid, *_children(self._pid)))
            self.peak_bytes = max(self.peak_bytes, total)

    def __enter__(self) -> "Memory":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self.join()


def _children(pid: int) -> list[int]:
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return []
    return [found for child in map(int, children) for found in (child, *_children(child))]


def _memory_of(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) << 10 for line in lines if line.startswith("Rss:"))


def _argv(node: Node, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "appbundle", "--root", str(node.layout.root), *arguments]


def _install_watched(node: Node, path: str, pieces: Iterator[bytes | bytearray] | None) -> int:
    """Install as a process of its own; gives the bytes of memory that it took."""
    stdin = subprocess.PIPE if pieces else subprocess.DEVNULL
    run = subprocess.Popen(_argv(node, "install", path), stdin=stdin, stdout=subprocess.DEVNULL)
    with Memory(run.pid) as memory:
        if pieces:
            assert run.stdin
            run.stdin.writelines(pieces)
            run.stdin.close()
        assert run.wait() == 0
    return memory.peak_bytes


def test_large_bundle_is_installed_in_little_memory(
    large: Large, file: Path, space: Path, key: PrivateKey
) -> None:
    """Row 31: a bundle past 4 GiB with a file past 2 GiB installs and verifies, in 150 MB.

    From a file on a node that has nothing, and through a pipe on one that has the contents.
    """
    node = make_node(space / "node", key)
    assert 10_000_000 < _install_watched(node, str(file), None) < MAX_MEMORY
    assert 10_000_000 < _install_watched(node, "-", large.pieces("2.0")) < MAX_MEMORY
    trees = [node.layout.apps / "web" / version for version in ("1.0", "2.0")]
    for tree in trees:
        assert (tree / "small").read_bytes() == SMALL
        assert (tree / "big").stat().st_size == FRAMES_A_FILE * FRAME_SIZE > 2 << 30
        assert (tree / "big").samefile(tree / "big-twin")
    assert (trees[0] / "big").samefile(trees[1] / "big")
    assert verify.verify(node.context).problems == ()
    shutil.rmtree(node.layout.root)


def test_byte_past_four_gigabytes_counts(
    large: Large, file: Path, space: Path, key: PrivateKey
) -> None:
    """Row 31: one bit turned over where 32 bits do not reach is refused, and nothing is left."""
    node = make_node(space / "flipped", key)
    at = (4 << 30) + 12_345
    with file.open("r+b") as raw:
        raw.seek(at)
        (byte,) = raw.read(1)
        raw.seek(at)
        raw.write(bytes((byte ^ 1,)))
    with pytest.raises(CorruptError, match=f"^frame {large.frame_at(at)} of the payload"):
        node.install(file)
    assert not (node.layout.apps / "web").exists()
    assert list(node.layout.stage.iterdir()) == []


def test_large_tree_is_built(space: Path, key: PrivateKey) -> None:
    """Row 31: a tree with a file past 4 GiB becomes a bundle that verifies wholly."""
    tree, target = space / "tree", space / "built.bundle"
    tree.mkdir()
    (tree / "last").write_bytes(b"last")
    with (tree / "big").open("wb") as big:
        # Mostly a hole: what matters are numbers, and zero bytes are quick.
        big.truncate((4 << 30) + 4097)
        big.seek((4 << 30) + 4000)
        big.write(b"past four gigabytes")
    description = Manifest(format=1, name="web", version="2.0", release=2, created=CREATED)
    with encode.encode(tree, description, spool=space, level=1) as made:
        statement = encode_statement(made.statement)
        signed = Signed(statement, (sshsig.sign_blob(statement, key),))
        encode.write_bundle_file(
            target, signed=signed, manifest_frame=made.manifest_frame, frames=made.payload
        )
    sizes = {file.path: file.size for file in made.manifest.files}
    assert sizes == {"big": (4 << 30) + 4097, "last": 4}
    node = make_node(space / "built", key)
    assert verify.verify_file(node.context, str(target)).checked_files == 2


@pytest.mark.root
@needs_disks
def test_content_repeated_more_often_than_an_inode_has_links(
    tmp_path: Path, key: PrivateKey
) -> None:
    """Where an inode has at most 65,000 links a content can still be there more often.

    So it can for the next version, and what is left in the pool when the first one goes is used.
    """
    made = draft({f"d{n % 64:02d}/{n}": Content("the same") for n in range(66_000)})
    with memory_directory() as memory:
        image = make_ext4(memory / "disk.img", size_bytes=128 << 20)
        with mounted(image) as place:
            node = make_node(place / "node", key)
            for version in ("1.0", "2.0"):
                node.install(node.write(made.change(version=version)))
            verified = verify.verify(node.context)
            assert (verified.problems, verified.checked_files) == ((), 2 * 66_000 + 1)
            remove.remove(node.context, parse_ref("web@1.0"))
            node.install(node.write(draft({"one": Content("the same")}, version="3.0")))
            assert (node.layout.apps / "web/3.0/one").stat().st_nlink > 2
