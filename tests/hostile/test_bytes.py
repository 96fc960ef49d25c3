"""Every byte of a bundle counts: changed, cut or added anywhere, it is refused cleanly.

The bundle is so small that all of it can be tried. Before the payload a dry run reads all that an
installation does, and is quicker; from there on, and now and then before, it is installed.
"""

import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from appbundle.bundle import container
from appbundle.bundle.statement import Signed, encode_signed
from appbundle.errors import AppbError, CorruptError, TrustError
from appbundle.flows import install, verify
from appbundle.layout import BUNDLE_DIR, MANIFEST_FRAME, SIGNED
from appbundle.trust import sshsig
from appbundle.trust.keys import PrivateKey
from tests.bundles import Draft, Entry, File, Link, Node, draft, make_node, make_tree
from tests.crash.support import memory_directory

SEED = 1
NOW_AND_THEN = 16
"""So many bytes before the payload share one installation."""
TREE: dict[str, Entry] = {
    "bin/web": File("#!/bin/sh\n", executable=True),
    "lib/one": File("one"),
    "current": Link("lib"),
}


@pytest.fixture(scope="module")
def memory() -> Iterator[Path]:
    """A directory in memory: what is refused here is not about disks."""
    with memory_directory() as path:
        yield path


@pytest.fixture(scope="module")
def quick(memory: Path, key: PrivateKey) -> Node:
    """A node in memory that runs web 0.9."""
    node = make_node(memory / "node", key)
    node.install(node.write(draft({"old": File("old")}, version="0.9", release=0, since=0)))
    return node


def small() -> Draft:
    """A small bundle with two payload frames, cut inside a file."""
    made = draft(TREE)
    total = sum(frame.size for frame in made.manifest.frames)
    return made.with_frames([total - 511, 511])


Variants = Iterator[tuple[str, int, bytes]]
"""What was done, at which byte, and what came of it."""


def flipped(content: bytes) -> Variants:
    """Every byte once: one bit of it, or many, turned over."""
    chance = random.Random(SEED)
    for at, byte in enumerate(content):
        change = chance.choice([*(1 << bit for bit in range(8)), chance.randrange(1, 256)])
        yield (
            f"byte {at} ^ {change:#x}",
            at,
            content[:at] + bytes((byte ^ change,)) + content[at + 1 :],
        )


def cut(content: bytes) -> Variants:
    """Every length that is too short."""
    return ((f"only {size} bytes", size, content[:size]) for size in range(len(content)))


def lengthened(content: bytes) -> Variants:
    """Something before or behind."""
    for name, more in (("zero", b"\0"), ("byte", b"x"), ("frame", container.PREAMBLE)):
        yield f"{name} behind", len(content), content + more
        yield f"{name} before", 0, more + content
    yield "twice", len(content), content * 2


def altered(content: bytes) -> Variants:
    """All of these."""
    yield from flipped(content)
    yield from cut(content)
    yield from lengthened(content)


def assert_each_refused(node: Node, bundle: Path, part: Path, *, installed_from: int) -> None:
    """Alter a part of a bundle in every way; each is refused, changes nothing, and says one line.

    Args:
        bundle: A file or a directory, which can be installed as it is.
        part: The file that is altered: the bundle itself, or one in it.
        installed_from: At bytes from here on the bundle is really installed.
    """
    whole, before = part.read_bytes(), node.snapshot()
    before_names = os.listdir(node.layout.apps / "web")
    for number, (what, at, content) in enumerate(altered(whole)):
        part.write_bytes(content)
        really = at >= installed_from or number % NOW_AND_THEN == 0
        act = install.install if really else install.plan
        error = refusal(what, act, node.context, [str(bundle)])
        assert error.exit_code in (20, 21), what
        assert error.what.isprintable(), what
        assert list(node.layout.stage.iterdir()) == [], what
        assert os.listdir(node.layout.apps / "web") == before_names, what
    assert node.snapshot() == before
    part.write_bytes(whole)
    install.plan(node.context, [str(bundle)])


def refusal(what: str, act: Callable[..., object], *arguments: object) -> AppbError:
    """Give the error that something ends with; `what` is for whoever reads a failure."""
    try:
        act(*arguments)
    except (CorruptError, TrustError) as error:
        return error
    except BaseException as error:
        error.add_note(what)
        raise
    pytest.fail(f"accepted with {what}")


def test_every_byte_of_a_bundle_file(quick: Node, memory: Path) -> None:
    """Row 31: no byte of the file can be changed, missing or added."""
    path, made = memory / "small.bundle", small()
    path.write_bytes(made.encode(quick.key))
    payload_size = sum(map(len, made.frames)) + len(container.END_FRAME)
    head_size = path.stat().st_size - payload_size
    assert_each_refused(quick, path, path, installed_from=head_size)


def bundle_directory(path: Path, made: Draft, key: PrivateKey) -> Path:
    """Write a draft as a bundle directory."""
    statement, frame = made.papers()
    make_tree(path, TREE)
    (path / BUNDLE_DIR).mkdir()
    (path / BUNDLE_DIR / MANIFEST_FRAME).write_bytes(frame)
    signed = Signed(statement, (sshsig.sign_blob(statement, key),))
    (path / BUNDLE_DIR / SIGNED).write_bytes(encode_signed(signed))
    return path


@pytest.mark.parametrize(
    ("part", "installed_from"),
    [
        (f"{BUNDLE_DIR}/{SIGNED}", 1 << 20),
        (f"{BUNDLE_DIR}/{MANIFEST_FRAME}", 1 << 20),
        ("bin/web", 0),
        ("lib/one", 0),
    ],
)
def test_every_byte_of_a_bundle_directory(
    quick: Node, tmp_path: Path, part: str, installed_from: int
) -> None:
    """Row 31: the same bundle as a directory has no loose byte either, least in its papers."""
    directory = bundle_directory(tmp_path / "small", small(), quick.key)
    assert_each_refused(quick, directory, directory / part, installed_from=installed_from)


def test_no_byte_is_verified_less(quick: Node, memory: Path) -> None:
    """Row 31: `appb verify FILE` refuses whatever an installation would refuse."""
    path = memory / "small.bundle"
    for what, _, content in altered(small().encode(quick.key)):
        path.write_bytes(content)
        refusal(what, verify.verify_file, quick.context, str(path))
