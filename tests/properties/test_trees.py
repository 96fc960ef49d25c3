"""Any tree becomes a bundle, and from the bundle the same tree again, in every way there is."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appbundle.build import encode
from appbundle.bundle import payload
from appbundle.bundle.manifest import Manifest
from appbundle.bundle.statement import Signed, encode_statement
from appbundle.flows import sign, verify
from appbundle.trust import sshsig
from tests.bundles import CREATED, complete, make_node, make_tree, new_key, read_tree
from tests.crash.support import memory_directory

from .effort import examples
from .trees import FRAME_TARGET, MAX_FRAME_SIZE, Tree, outward, successors, trees

KEY = new_key()


@contextmanager
def small_frames() -> Iterator[None]:
    """Let builders cut frames of some kilobytes; readers need not know."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(payload, "FRAME_TARGET", FRAME_TARGET)
        patched.setattr(payload, "MAX_FRAME_SIZE", MAX_FRAME_SIZE)
        yield


def build(
    place: Path,
    tree: Tree,
    *,
    version: str = "1.0",
    release: int = 1,
    previous: Manifest | None = None,
) -> tuple[Path, Manifest]:
    """Build and sign a bundle file of a tree."""
    source = make_tree(place / f"tree-{version}", tree)
    target = place / f"web-{version}.bundle"
    description = Manifest(
        format=1,
        name="web",
        version=version,
        release=release,
        created=CREATED,
        outward=outward(tree),
    )
    with small_frames():
        with encode.encode(source, description, spool=place, previous=previous, level=1) as made:
            statement = encode_statement(made.statement)
            encode.write_bundle_file(
                target,
                signed=Signed(statement, (sshsig.sign_blob(statement, KEY),)),
                manifest_frame=made.manifest_frame,
                frames=made.payload,
            )
            return target, made.manifest


@given(trees())
@settings(max_examples=examples(60))
def test_any_tree_is_installed_as_it_was(tree: Tree) -> None:
    """What was built is what is installed: every name, content, link, and the x in every mode."""
    with memory_directory() as place:
        file, _ = build(place, tree)
        node = make_node(place / "node", KEY)
        node.install(file)
        assert node.tree() == complete(tree)
        assert verify.verify(node.context).problems == ()
        assert verify.verify_file(node.context, str(file)).ok


@pytest.mark.skipif(shutil.which("zstd") is None, reason="needs zstd, which tar calls")
@given(trees())
@settings(max_examples=examples(30))
def test_tar_unpacks_the_same_tree(tree: Tree) -> None:
    """Whoever has only GNU tar and zstd gets the same tree out of a bundle."""
    with memory_directory() as place:
        file, _ = build(place, tree)
        unpacked = place / "unpacked"
        unpacked.mkdir()
        subprocess.run(
            ["tar", "--zstd", "-xf", file, "-C", unpacked],
            check=True,
            capture_output=True,
            timeout=60,
            env={"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"},
        )
        assert (unpacked / ".bundle/manifest.json").is_file()
        assert read_tree(unpacked) == complete(tree)


@given(trees())
@settings(max_examples=examples(30))
def test_unpacking_and_packing_gives_the_same_bytes(tree: Tree) -> None:
    """File and directory are two forms of one bundle; both install alike."""
    with memory_directory() as place:
        file, _ = build(place, tree)
        node = make_node(place / "node", KEY)
        directory, again = place / "directory", place / "again.bundle"
        sign.unpack(node.context, str(file), str(directory))
        assert read_tree(directory) == complete(tree)
        node.install(directory)
        assert node.tree() == complete(tree)
        sign.pack(node.context, str(directory), str(again))
        assert again.read_bytes() == file.read_bytes()


@given(st.data())
@settings(max_examples=examples(30))
def test_any_tree_can_follow_any_other(data: st.DataObject) -> None:
    """An upgrade of any tree to any other gives both, whatever they share."""
    before = data.draw(trees())
    after = data.draw(successors(before))
    with memory_directory() as place:
        old, manifest = build(place, before)
        new, _ = build(place, after, version="2.0", release=2, previous=manifest)
        node = make_node(place / "node", KEY)
        node.install(old)
        node.install(new)
        assert node.tree("1.0") == complete(before)
        assert node.tree("2.0") == complete(after)
        assert verify.verify(node.context).problems == ()
