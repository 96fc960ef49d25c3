"""Nodes and tiny signed bundles for tests of the store, the flows and of bad luck."""

import contextlib
import dataclasses
import io
import json
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from appbundle.build import encode
from appbundle.bundle.manifest import Manifest
from appbundle.bundle.statement import Signed, encode_statement
from appbundle.cli import main as cli
from appbundle.flows import install as installing
from appbundle.flows import listing
from appbundle.flows import remove as removing
from appbundle.flows import switch as switching
from appbundle.flows import verify as verifying
from appbundle.flows.consequences import Switched
from appbundle.flows.context import Context
from appbundle.layout import Layout
from appbundle.names import AppName, Version, parse_ref
from appbundle.store import settings
from appbundle.store.retention import Policy
from appbundle.trust import allowed_signers, keys, sshsig

NOW = 1_750_000_000
DAY_S = 86_400

Content = bytes | str
"""A file's content, or a link's target after `-> `."""
Tree = Mapping[str, Content]

KEY_FILE = keys.generate(comment="test").private
KEY = keys.load_private_key(KEY_FILE)


def hello(version: str) -> dict[str, Content]:
    """A tree in which one file is the version's own and the others are shared by all versions."""
    return {
        "bin/hello": b"#!/bin/sh\nexec cat /share/version\n",
        "share/version": f"{version}\n".encode(),
        "share/common": b"the same in every version\n" * 40,
        "share/twin": b"the same in every version\n" * 40,
        "share/empty": b"",
        "share/link": "-> common",
    }


def make_tree(directory: Path, tree: Tree) -> Path:
    """Write a tree; files below bin/ are executable."""
    directory.mkdir(parents=True, exist_ok=True)
    for path, what in tree.items():
        target = directory / path
        target.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(what, str):
            target.symlink_to(what.removeprefix("-> "))
            continue
        target.write_bytes(what)
        target.chmod(0o755 if path.startswith("bin/") else 0o644)
    return directory


def make_bundle(
    directory: Path,
    name: str,
    version: str,
    *,
    release: int = 1,
    tree: Tree | None = None,
    key: keys.PrivateKey = KEY,
    as_directory: bool = False,
    **more: object,
) -> Path:
    """Make a signed bundle.

    Args:
        directory: Where it goes.
        tree: `hello(version)` by default.
        more: Further keys of the manifest.
    """
    with tempfile.TemporaryDirectory(dir=directory) as scratch:
        source = make_tree(Path(scratch) / "tree", hello(version) if tree is None else tree)
        values: dict[str, object] = {"created": 1_700_000_000, "release": release}
        description = Manifest(format=1, name=name, version=version, **(values | more))  # type: ignore[arg-type]
        with encode.encode(source, description, spool=Path(scratch), level=1) as made:
            statement = encode_statement(made.statement)
            signed = Signed(statement, (sshsig.sign_blob(statement, key),))
            target = directory / f"{name}-{version}"
            if as_directory:
                encode.write_bundle_directory(
                    target, source, signed=signed, manifest_frame=made.manifest_frame
                )
                return target
            file = target.with_name(f"{target.name}.bundle")
            encode.write_bundle_file(
                file, signed=signed, manifest_frame=made.manifest_frame, frames=made.payload
            )
            return file


@dataclass(frozen=True, slots=True)
class Looks:
    """What can be seen of a node: enough to say whether it is as before, or as it should be."""

    current: int | None
    apps: dict[str, str]
    versions: frozenset[tuple[str, str]]
    generations: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Node:
    """A node below a directory, and the flows on it with a clock that the test sets."""

    root: Path

    @property
    def layout(self) -> Layout:
        """Its paths."""
        return Layout(self.root)

    def context(self, now: int = NOW, **more: Any) -> Context:
        """What flows are given."""
        return Context(layout=self.layout, now=now, by="tester", **more)

    def trust(self, key: keys.PrivateKey = KEY) -> None:
        """Accept the key for every app."""
        entry = allowed_signers.format_entry(key.public, names=("*",))
        settings.write_allowed_signers(self.layout, entry)

    def install(self, *paths: Path, now: int = NOW, **how: Any) -> installing.Installed:
        """Install bundles."""
        return installing.install(self.context(now), [str(path) for path in paths], **how)

    def switch(self, *refs: str) -> Switched:
        """Switch to versions."""
        return switching.switch(self.context(), [parse_ref(ref) for ref in refs])

    def previous(self, name: str | None = None) -> Switched:
        """Go back, wholly or with one app."""
        if name is None:
            return switching.switch_previous(self.context())
        return switching.switch_app_previous(self.context(), AppName(name))

    def remove(self, ref: str, *, purge: bool = False) -> removing.Removed:
        """Remove a version or an app."""
        return removing.remove(self.context(), parse_ref(ref), purge=purge)

    def gc(self, *, keep: int = 0, older_than_s: int = 0, now: int = NOW) -> removing.Collected:
        """Collect garbage."""
        return removing.collect(self.context(now), Policy(keep=keep, older_than_s=older_than_s))

    def verify(self, ref: str | None = None) -> verifying.Verified:
        """Verify one thing or everything."""
        return verifying.verify(self.context(), None if ref is None else parse_ref(ref))

    def problems(self) -> dict[str, str]:
        """What `verify` complains about, by path."""
        return {each.path: each.problem for each in self.verify().problems}

    def looks(self) -> Looks:
        """What `list` and `history` say; fails if either cannot be said."""
        number, generations = listing.history(self.layout)
        apps = listing.apps(self.layout)
        return Looks(
            current=number,
            apps={app.name: app.current for app in apps if app.current is not None},
            versions=frozenset((app.name, v.version) for app in apps for v in app.versions),
            generations=tuple(each.number for each in generations),
        )

    def version(self, name: str, version: str) -> Path:
        """The directory of a version."""
        return self.layout.version(AppName(name), Version(version))

    def objects(self) -> list[Path]:
        """Every object of the pool."""
        return sorted(each for each in self.layout.objects.rglob("*") if each.is_file())

    def leftovers(self) -> list[str]:
        """What stage and trash still hold, and temporary names anywhere else."""
        layout = self.layout
        found = [*layout.stage.iterdir(), *layout.trash.iterdir()]
        for place in (layout.private, layout.generations, layout.pins, layout.releases):
            found += [each for each in place.iterdir() if each.name.startswith(".")]
        return sorted(map(str, found))

    def unshared_objects(self) -> list[Path]:
        """Objects that no version links to."""
        return [each for each in self.objects() if each.stat().st_nlink == 1]


def new_node(root: Path) -> Node:
    """Make a node that trusts the tests' key."""
    root.mkdir(parents=True, exist_ok=True)
    root.chmod(0o755)
    node = Node(root)
    node.trust()
    return node


@dataclass(frozen=True, slots=True)
class Said:
    """What a run of the command line gave."""

    status: int
    stdout: str
    stderr: str

    @property
    def document(self) -> Any:
        """The JSON on stdout."""
        return json.loads(self.stdout)


def run_cli(node: Node, *arguments: str) -> Said:
    """Run `appb --root NODE ARGUMENTS` in this process."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = cli.run_command(["--root", str(node.root), *arguments])
    return Said(status, out.getvalue(), err.getvalue())


def argv(node: Node, *arguments: str) -> list[str]:
    """The argument list of the same as a process."""
    return [sys.executable, "-m", "appbundle", "--root", str(node.root), *arguments]


@contextlib.contextmanager
def memory_directory() -> Iterator[Path]:
    """Give a scratch directory in memory where there is one.

    Killing a process tells nothing about the disk, and a flush there would only cost time.
    """
    place = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="appb-test-", dir=place) as name:
        path = Path(name)
        path.chmod(0o755)
        yield path


def names_of(looks: Looks, *, without: tuple[str, ...] = ()) -> frozenset[tuple[str, str]]:
    """The versions of a node, but for those of some apps."""
    return frozenset(each for each in looks.versions if each[0] not in without)


def same_but_current(looks: Looks, current: int | None) -> Looks:
    """The same looks with another current generation."""
    return dataclasses.replace(looks, current=current)
