"""Signed bundles from literal trees, honest and hostile; and a node to install them on.

The honest way is `make_tree` and `bundle_of`. The hostile way is a `Draft`: whatever manifest,
frames, statement or signatures a test wants, with right digests all around, signed by a key that
the node trusts, so that it is never the signature that saves us.
"""

import hashlib
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import msgspec

from appbundle.bundle import container, payload, rules, tar
from appbundle.bundle import manifest as entries
from appbundle.bundle.manifest import Frame, Manifest
from appbundle.bundle.statement import Signed
from appbundle.flows import install
from appbundle.flows.context import Context
from appbundle.layout import Layout
from appbundle.names import Digest
from appbundle.trust import allowed_signers, keys, sshsig
from appbundle.trust.keys import PrivateKey

NOW = 1_800_000_000
"""What time it is on every node of the tests."""
CREATED = 1_700_000_000
LEVEL = 3


@dataclass(frozen=True, slots=True)
class File:
    """A regular file of a literal tree."""

    content: bytes | str = b""
    executable: bool = False

    @property
    def raw(self) -> bytes:
        """The content as bytes."""
        return self.content.encode() if isinstance(self.content, str) else self.content


@dataclass(frozen=True, slots=True)
class Link:
    """A symbolic link of a literal tree."""

    target: str


@dataclass(frozen=True, slots=True)
class Dir:
    """A directory that is empty, or that one wants to see in the literal."""


Entry = File | Link | Dir
Tree = Mapping[str, Entry]


def make_tree(directory: Path, tree: Tree) -> Path:
    """Write a literal tree: `make_tree(tmp_path, {"bin/web": File("x"), "cur": Link("bin")})`."""
    directory.mkdir(parents=True, exist_ok=True)
    for path, entry in tree.items():
        target = directory / path
        target.parent.mkdir(parents=True, exist_ok=True)
        match entry:
            case Dir():
                target.mkdir(exist_ok=True)
            case Link():
                target.symlink_to(entry.target)
            case File():
                target.write_bytes(entry.raw)
                target.chmod(0o755 if entry.executable else 0o644)
    return directory


def read_tree(directory: Path) -> dict[str, Entry]:
    """Read a tree back as a literal, every directory included, `.bundle` left out."""
    found: dict[str, Entry] = {}
    for here, directories, names in os.walk(directory):
        base = os.path.relpath(here, directory)
        if base == ".":
            directories[:] = [name for name in directories if name != ".bundle"]
        for name in (*directories, *names):
            path = name if base == "." else f"{base}/{name}"
            full = os.path.join(here, name)
            if os.path.islink(full):
                found[path] = Link(os.readlink(full))
            elif os.path.isdir(full):
                found[path] = Dir()
            else:
                mode = os.lstat(full).st_mode & 0o7777
                assert mode in (0o644, 0o755), f"{path} has mode {mode:04o}"
                found[path] = File(Path(full).read_bytes(), mode == 0o755)
    return found


def complete(tree: Tree) -> dict[str, Entry]:
    """Give the tree with its parent directories, as `read_tree` would find it."""
    whole: dict[str, Entry] = {}
    for path, entry in tree.items():
        for parent in parents(path):
            whole.setdefault(parent, Dir())
        whole[path] = File(entry.raw, entry.executable) if isinstance(entry, File) else entry
    return whole


def parents(path: str) -> Iterable[str]:
    """The directories above a relative path, outermost first."""
    parts = path.split("/")[:-1]
    return ("/".join(parts[: count + 1]) for count in range(len(parts)))


@dataclass(slots=True, kw_only=True)
class Draft:
    """A bundle in the making; every part may be replaced by a lie before it is written.

    Args:
        manifest: What the manifest says; its frames are filled in by `with_frames`.
        contents: What the files hold, in the manifest's order.
        frames: Compressed frames, as they will stand in the file.
        raw: The manifest's JSON, if it is not `manifest`'s canonical encoding.
        manifest_frame: Compressed, if it is not made from the JSON.
        statement: Values that the statement has instead of the true ones.
        trailing: Bytes behind the end.
        end: What the file ends with.
    """

    manifest: Manifest
    contents: list[bytes] = field(default_factory=list)
    frames: list[bytes] = field(default_factory=list)
    raw: bytes | None = None
    manifest_frame: bytes | None = None
    statement: dict[str, object] = field(default_factory=dict)
    end: bytes = container.END_FRAME
    trailing: bytes = b""

    def change(self, **values: object) -> "Draft":
        """Replace fields of the manifest; frames and digests stay as they are."""
        self.manifest = msgspec.structs.replace(self.manifest, **values)
        return self

    def change_file(self, index: int, **values: object) -> "Draft":
        """Replace fields of one entry in the file table."""
        table = list(self.manifest.files)
        table[index] = msgspec.structs.replace(table[index], **values)
        return self.change(files=tuple(table))

    def with_frames(self, sizes: list[int] | None = None) -> "Draft":
        """Make frames from manifest and contents, as the format wants them."""
        manifest = self.manifest
        if sizes is None:
            shape = payload.measure(manifest.directories, manifest.links, manifest.files)
            sizes = payload.cut(shape, manifest.files)
        return self.with_stream(b"".join(self._stream()), sizes)

    def with_stream(self, stream: bytes, sizes: list[int]) -> "Draft":
        """Cut any stream into frames; the manifest gets their digests."""
        plain, at = [], 0
        for size in sizes:
            plain.append(stream[at : at + size])
            at += size
        return self.with_compressed(
            [(container.compress(each, level=LEVEL), len(each)) for each in plain]
        )

    def with_compressed(self, frames: list[tuple[bytes, int]]) -> "Draft":
        """Take compressed frames as they are, each with the size that it is said to have."""
        self.frames = [each for each, _ in frames]
        return self.change(frames=tuple(Frame(len(c), size, _digest(c)) for c, size in frames))

    def _stream(self) -> Iterable[bytes]:
        manifest = self.manifest
        yield payload.structure(manifest.directories, manifest.links, mtime=manifest.created)
        for file, content in zip(manifest.files, self.contents, strict=True):
            yield tar.file_header(
                file.path, size=file.size, executable=file.executable, mtime=manifest.created
            )
            yield content + bytes(tar.padding(len(content)))

    def statement_bytes(self, raw: bytes, frame: bytes) -> bytes:
        """Write the statement over what is there, with the lies asked for."""
        said: dict[str, object] = {
            "name": self.manifest.name,
            "version": self.manifest.version,
            "release": self.manifest.release,
            "manifest-frame-size": len(frame),
            "manifest-frame-sha256": _digest(frame),
            "manifest-size": len(raw),
            "manifest-sha256": _digest(raw),
        } | self.statement
        lines = "".join(f"{key}: {value}\n" for key, value in said.items())
        return b"appb-bundle-v1\n" + lines.encode()

    def papers(self) -> tuple[bytes, bytes]:
        """The statement and the manifest frame."""
        raw = rules.encode_manifest(self.manifest) if self.raw is None else self.raw
        frame = self.manifest_frame
        if frame is None:
            frame = container.encode_manifest_frame(raw, mtime=CREATED, level=LEVEL)
        return self.statement_bytes(raw, frame), frame

    def encode(self, *signers: PrivateKey) -> bytes:
        """Give the file's bytes, signed by each of the keys."""
        statement, frame = self.papers()
        signatures = tuple(sshsig.sign_blob(statement, signer) for signer in signers)
        head = container.encode_head(Signed(statement, signatures))
        return head + frame + b"".join(self.frames) + self.end + self.trailing

    def write(self, path: Path, *signers: PrivateKey) -> Path:
        """Write the bundle file."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(self.encode(*signers))
        return path


def _digest(content: bytes) -> Digest:
    return Digest(hashlib.sha256(content).hexdigest())


WEB: dict[str, Entry] = {
    "bin/web": File("#!/bin/sh\necho hello\n", executable=True),
    "lib/one.py": File("one = 1\n" * 40),
    "lib/two.py": File("two = 2\n" * 30),
    "lib/empty": File(),
    "current": Link("lib"),
}
"""A small honest application."""


def draft(
    tree: Tree = WEB, *, name: str = "web", version: str = "1.0", release: int = 1, since: int = 1
) -> Draft:
    """Draft an honest bundle of a literal tree; outward links in it are declared."""
    whole = complete(tree)
    links = sorted((p, e.target) for p, e in whole.items() if isinstance(e, Link))
    contents = sorted((p, e) for p, e in whole.items() if isinstance(e, File))
    targets = dict(links)
    described = Manifest(
        format=1,
        name=name,
        version=version,
        release=release,
        created=CREATED,
        compression=f"zstd test level {LEVEL}",
        directories=tuple(sorted(p for p, e in whole.items() if isinstance(e, Dir))),
        links=tuple(entries.Link(path, target) for path, target in links),
        outward=tuple(
            path for path, target in links if rules.link_leaves(entries.Link(path, target), targets)
        ),
        files=tuple(
            entries.File(path, len(e.raw), _digest(e.raw), e.executable, since)
            for path, e in contents
        ),
    )
    return Draft(manifest=described, contents=[e.raw for _, e in contents]).with_frames()


def signed_bundle(
    path: Path, key: PrivateKey, tree: Tree = WEB, *, version: str = "1.0", release: int = 1
) -> Path:
    """Write an honest bundle of a literal tree, signed by a key."""
    return draft(tree, version=version, release=release).write(path, key)


def new_key() -> PrivateKey:
    """Make a key pair."""
    return keys.load_private_key(keys.generate().private)


@dataclass(frozen=True, slots=True)
class Node:
    """A node below a directory of its own, which trusts one key.

    Args:
        layout: Its paths.
        key: The key.
        outside: A directory beside the root, with things that nobody may touch.
    """

    layout: Layout
    key: PrivateKey
    outside: Path

    @property
    def context(self) -> Context:
        """What flows are given; waits for no lock."""
        return Context(layout=self.layout, now=NOW, by="tester", lock_timeout_s=0)

    def trust(self, *lines: str) -> None:
        """Replace what the node trusts."""
        self.layout.settings.mkdir(parents=True, exist_ok=True)
        self.layout.allowed_signers.write_text("".join(lines))

    def write(self, drafted: Draft, *signers: PrivateKey) -> Path:
        """Write a bundle beside the root, signed by the node's key if no other is given."""
        return drafted.write(self.layout.root.parent / "hostile.bundle", *(signers or (self.key,)))

    def install(self, path: Path, *, allow_downgrade: bool = False) -> install.Installed:
        """Install a bundle and switch to it."""
        return install.install(self.context, [str(path)], allow_downgrade=allow_downgrade)

    def tree(self, version: str = "1.0", name: str = "web") -> dict[str, Entry]:
        """What is on disk of a version."""
        return read_tree(self.layout.apps / name / version)

    def snapshot(self) -> dict[str, object]:
        """Everything below the root and beside it that a refusal must leave alone."""
        return picture(self.layout.root) | picture(self.outside)


def picture(directory: Path) -> dict[str, object]:
    """Describe every entry below a directory but times; contents by digest.

    The lock file is left out (it names the last holder), and so are the pool's empty shards.
    """
    found: dict[str, object] = {}
    for here, directories, names in os.walk(directory):
        for name in (*directories, *names):
            path = os.path.join(here, name)
            status = os.lstat(path)
            inner: object = None
            if os.path.islink(path):
                inner = os.readlink(path)
            elif os.path.isfile(path):
                inner = _digest(Path(path).read_bytes())
            found[path] = (status.st_mode, status.st_uid, status.st_nlink, status.st_ino, inner)
    objects = f"{directory}/apps/.appb/objects"
    for path in list(found):
        if (
            path.endswith("/apps/.appb/lock")
            or (path.startswith(objects) and os.path.isdir(path) and not os.listdir(path))
            or path == objects
        ):
            del found[path]
    return found


def make_node(directory: Path, key: PrivateKey) -> Node:
    """Make a node that trusts a key for every app and runs nothing yet."""
    root, outside = directory / "root", directory / "outside"
    root.mkdir(parents=True)
    make_tree(outside, {"secret": File("leave me alone"), "empty": Dir()})
    node = Node(Layout(root), key, outside)
    node.trust(allowed_signers.format_entry(key.public, names=("*",)))
    return node


def renamed(drafted: Draft, old: str, new: str) -> Draft:
    """Give an entry of a draft another path, in every table, and make its frames anew."""
    manifest = drafted.manifest
    replacements = {
        "directories": tuple(new if each == old else each for each in manifest.directories),
        "links": tuple(
            msgspec.structs.replace(each, path=new) if each.path == old else each
            for each in manifest.links
        ),
        "files": tuple(
            msgspec.structs.replace(each, path=new) if each.path == old else each
            for each in manifest.files
        ),
    }
    return replace(
        drafted, manifest=msgspec.structs.replace(manifest, **replacements)
    ).with_frames()
