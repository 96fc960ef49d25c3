"""A tree becomes a bundle: order, identity, readers that are not ours."""

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from appbundle.build import encode
from appbundle.bundle import audit, container, payload, rules
from appbundle.bundle.manifest import File, Manifest
from appbundle.bundle.statement import Signed, encode_statement, parse_statement
from appbundle.errors import BuildError, ConflictError, ManifestError
from appbundle.layout import BUNDLE_DIR, MANIFEST_FRAME, SIGNED

Content = bytes | str
"""A file's content, or a link's target after `-> `."""

WEB: Mapping[str, Content] = {
    "bin/web": b"#!/bin/sh\necho hello\n",
    "lib/one.py": b"one = 1\n" * 400,
    "lib/two.py": b"two = 2\n" * 300,
    "lib/empty": b"",
    "current": "-> lib",
}


def make_tree(directory: Path, content: Mapping[str, Content]) -> Path:
    """Write a tree; files below bin/ are executable."""
    for path, what in content.items():
        target = directory / path
        target.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(what, str):
            target.symlink_to(what.removeprefix("-> "))
            continue
        target.write_bytes(what)
        target.chmod(0o755 if path.startswith("bin/") else 0o644)
    return directory


def describe(release: int = 1) -> Manifest:
    """A manifest without tables."""
    return Manifest(
        format=1, name="web", version=f"{release}.0", release=release, created=1_700_000_000
    )


def build(
    tree: Path,
    target: Path,
    *,
    release: int = 1,
    previous: Manifest | None = None,
    level: int = 3,
) -> Manifest:
    """Make an unsigned bundle file."""
    description = describe(release)
    with encode.encode(
        tree, description, spool=target.parent, previous=previous, level=level
    ) as made:
        encode.write_bundle_file(
            target,
            signed=Signed(encode_statement(made.statement)),
            manifest_frame=made.manifest_frame,
            frames=made.payload,
        )
        return made.manifest


def read_back(file: Path) -> tuple[Manifest, list[bytes]]:
    """Read a bundle as a second program would: manifest and plain frames."""
    with file.open("rb") as stream:
        head = container.read_head(stream.read)
        statement = parse_statement(head.signed.statement)
        manifest = rules.read_manifest(
            container.open_manifest_frame(
                stream.read(statement.manifest_frame_size),
                size=statement.manifest_size,
                sha256=statement.manifest_sha256,
            )
        )
        frames = [
            container.decompress(stream.read(frame.compressed_size), size=frame.size)
            for frame in manifest.frames
        ]
        assert stream.read() == container.END_FRAME
    return manifest, frames


def test_bundle_reads_back_as_written(tmp_path: Path) -> None:
    """What the manifest says is what the payload holds, byte for byte."""
    tree = make_tree(tmp_path / "tree", WEB)
    made = build(tree, tmp_path / "web.bundle")
    manifest, frames = read_back(tmp_path / "web.bundle")
    assert manifest == made
    audit.check_stream(manifest, frames)
    assert [file.path for file in manifest.files if file.executable] == ["bin/web"]
    assert manifest.directories == ("bin", "lib")


@pytest.mark.parametrize(
    "command", [["tar", "--zstd", "-tf"], ["tar", "-tf"], ["bsdtar", "-tf"], ["zstd", "-tq"]]
)
def test_other_programs_read_a_bundle(tmp_path: Path, command: list[str]) -> None:
    """tar, bsdtar and zstd accept a bundle, so nobody is locked in."""
    if not shutil.which(command[0]):
        pytest.skip(f"{command[0]} is not installed")
    build(make_tree(tmp_path / "tree", WEB), tmp_path / "web.bundle")
    done = subprocess.run(
        [*command, str(tmp_path / "web.bundle")], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    if "tar" in command[0]:
        assert {"bin/web", "lib/", "current"} <= set(done.stdout.splitlines())


def test_same_content_gives_same_bytes(tmp_path: Path) -> None:
    """Where a tree lies, when it was written and in which order: none of it shows."""
    make_tree(tmp_path / "a/tree", WEB)
    make_tree(tmp_path / "elsewhere/b/tree", dict(reversed(list(WEB.items()))))
    os.utime(tmp_path / "a/tree/lib/one.py", (1, 1))
    build(tmp_path / "a/tree", tmp_path / "a/web.bundle")
    build(tmp_path / "elsewhere/b/tree", tmp_path / "elsewhere/web.bundle")
    first = (tmp_path / "a/web.bundle").read_bytes()
    assert (tmp_path / "elsewhere/web.bundle").read_bytes() == first


def test_oldest_content_comes_first(tmp_path: Path) -> None:
    """Files are sorted by the release in which they last changed, and changed ones are the tail."""
    tree = make_tree(tmp_path / "tree", WEB)
    first = build(tree, tmp_path / "1.bundle")
    (tree / "bin/web").write_bytes(b"#!/bin/sh\necho changed\n")
    (tree / "a-new-file").write_bytes(b"new")
    second = build(tree, tmp_path / "2.bundle", release=2, previous=first)
    (tree / "lib/one.py").write_bytes(b"one = 'three'\n")
    third = build(tree, tmp_path / "3.bundle", release=3, previous=second)
    assert [(file.since, file.path) for file in third.files] == [
        (1, "lib/empty"),
        (1, "lib/two.py"),
        (2, "a-new-file"),
        (2, "bin/web"),
        (3, "lib/one.py"),
    ]
    assert third.previous == encode.digest_of(second)


def test_mode_counts_as_content(tmp_path: Path) -> None:
    """A file that became executable has changed in this release."""
    tree = make_tree(tmp_path / "tree", WEB)
    first = build(tree, tmp_path / "1.bundle")
    (tree / "lib/two.py").chmod(0o755)
    second = build(tree, tmp_path / "2.bundle", release=2, previous=first)
    assert {file.path for file in second.files if file.since == 2} == {"lib/two.py"}


def test_large_file_spans_frames(tmp_path: Path) -> None:
    """A file larger than a frame is cut; no frame unpacks to more than the limit."""
    tree = make_tree(tmp_path / "tree", {"big": os.urandom(9 << 20), "small": b"x"})
    build(tree, tmp_path / "web.bundle", level=1)
    manifest, frames = read_back(tmp_path / "web.bundle")
    assert max(map(len, frames)) <= payload.MAX_FRAME_SIZE
    audit.check_stream(manifest, frames)


def test_empty_tree_is_a_bundle(tmp_path: Path) -> None:
    """A bundle without any entry is strange, but valid."""
    (tmp_path / "tree").mkdir()
    build(tmp_path / "tree", tmp_path / "web.bundle")
    assert read_back(tmp_path / "web.bundle")[0].files == ()


def test_device_is_refused(tmp_path: Path) -> None:
    """What is neither file, directory nor link is named and refused."""
    (tmp_path / "tree").mkdir()
    os.mkfifo(tmp_path / "tree/pipe")
    with pytest.raises(BuildError, match="pipe is neither"):
        encode.scan_tree(tmp_path / "tree")


def test_link_out_of_the_bundle_is_refused(tmp_path: Path) -> None:
    """The manifest's rules hold before anything is written."""
    tree = make_tree(tmp_path / "tree", {"passwd": "-> /etc/passwd"})
    with pytest.raises(ManifestError, match="leaves the bundle"):
        build(tree, tmp_path / "web.bundle")
    assert not (tmp_path / "web.bundle").exists()


def test_reserved_directory_is_refused(tmp_path: Path) -> None:
    """A tree may not bring a .bundle of its own."""
    tree = make_tree(tmp_path / "tree", {".bundle/signed": b"forged"})
    with pytest.raises(ManifestError, match="reserved"):
        build(tree, tmp_path / "web.bundle")


def test_change_while_reading_is_noticed(tmp_path: Path) -> None:
    """A content that is not the one that was hashed never gets into a bundle."""
    tree = make_tree(tmp_path / "tree", {"file": b"before"})
    (file,) = encode.scan_tree(tree).files
    (tree / "file").write_bytes(b"behind")
    fd = os.open(tree, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with pytest.raises(BuildError, match="changed while"):
            list(encode.read_checked(fd, file))
    finally:
        os.close(fd)


def test_failed_write_keeps_the_old_bundle(tmp_path: Path) -> None:
    """A bundle that cannot be finished leaves its predecessor and nothing else."""
    target = tmp_path / "web.bundle"
    target.write_bytes(b"the old one")
    with (tmp_path / "short").open("w+b") as short, pytest.raises(Exception, match="ends inside"):
        encode.write_bundle_file(
            target,
            signed=Signed(b"statement"),
            manifest_frame=b"frame",
            frames=encode.Payload(short.fileno(), 0, 100),
        )
    assert target.read_bytes() == b"the old one"
    assert sorted(each.name for each in tmp_path.iterdir()) == ["short", "web.bundle"]


def test_directory_holds_what_the_file_holds(tmp_path: Path) -> None:
    """A bundle directory has the tree, and in .bundle the manifest frame and the statement."""
    tree = make_tree(tmp_path / "tree", WEB)
    target = tmp_path / "web"
    with encode.encode(tree, describe(), spool=tmp_path, level=1) as made:
        signed = Signed(encode_statement(made.statement))
        encode.write_bundle_directory(
            target, tree, signed=signed, manifest_frame=made.manifest_frame
        )
        assert (target / BUNDLE_DIR / MANIFEST_FRAME).read_bytes() == made.manifest_frame
        with pytest.raises(ConflictError):
            encode.write_bundle_directory(
                target, tree, signed=signed, manifest_frame=made.manifest_frame
            )
    assert (target / BUNDLE_DIR / SIGNED).read_bytes().find(signed.statement) == 4
    assert (target / "current").readlink() == Path("lib")
    shutil.rmtree(target / BUNDLE_DIR)
    assert encode.scan_tree(target).files == encode.scan_tree(tree).files


def test_hashing_finds_size_and_mode(tmp_path: Path) -> None:
    """A table row is path, size, digest and whether anyone may execute it."""
    tree = make_tree(tmp_path / "tree", {"bin/x": b"x" * 3_000_000})
    (file,) = encode.scan_tree(tree).files
    assert isinstance(file, File)
    assert (file.path, file.size, file.executable) == ("bin/x", 3_000_000, True)
