"""appb as it is measured: its command, its keys, and as a contestant among the peers."""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

from measure import Command, command, output, run
from peers import BUNDLE, Peer, Release

KEY = "bench-key"
"""Name of the signing key in the work directory; KEY.pub beside it."""


def appb(*words: str | Path, root: Path | None = None) -> Command:
    """The installed `appb` command, as a person would call it."""
    script = Path(sys.executable).with_name("appb")
    program = (script,) if script.exists() else (sys.executable, "-m", "appbundle")
    return command(*program, *(("--root", root) if root else ()), *words)


def appb_json(*words: str | Path, root: Path | None = None) -> Any:
    """Run `appb --json` and return the document that it wrote."""
    return json.loads(output(appb("--json", *words, root=root)))


def make_key(workdir: Path) -> Path:
    """Make the bench's own signing key, or take the one of an earlier run."""
    key = workdir / KEY
    if not key.exists():
        run([appb("key", "new", key)])
    return key


def trust(root: Path, workdir: Path) -> None:
    """Make a node accept what the bench signs."""
    run([appb("trust", "add", f"{make_key(workdir)}.pub", root=root)])


def release_of(bundle: Path, workdir: Path) -> Release:
    """Take a bundle to measure with: a copy with the bench's signature, and its files as a tree.

    Signing changes nothing but the signature area, so the copy is the same bundle.
    """
    about = appb_json("info", bundle)
    cache = workdir / f"{about['name']}-{about['version']}-{about['digest'][:12]}"
    signed, tree = cache / bundle.name, cache / "tree"
    if not tree.exists():
        shutil.rmtree(cache, ignore_errors=True)
        cache.mkdir(parents=True)
        shutil.copyfile(bundle, signed)
        run([appb("sign", signed, "--key", make_key(workdir))])
        unpacked = cache / "unpacked"
        run([appb("unpack", signed, unpacked, root=_trusting(workdir))])
        shutil.rmtree(unpacked / ".bundle")
        unpacked.rename(tree)
    return Release(version=about["version"], tree=tree, cache=cache, bundle=signed)


def _trusting(workdir: Path) -> Path:
    """An empty node that accepts the bench's key."""
    root = workdir / "unpacking"
    if not root.exists():
        root.mkdir()
        trust(root, workdir)
    return root


def contestant(workdir: Path) -> Peer:
    """`appb install` in the place of a peer; the bundle itself is its archive."""

    def set_up(disk: Path) -> None:
        trust(disk, workdir)

    def install(archive: Path, _: Release, disk: Path, __: Release | None) -> list[Command]:
        return [appb("-q", "install", archive, root=disk)]

    return Peer(
        name="appb install",
        programs=(),
        package="",
        archive=BUNDLE,
        set_up=set_up,
        install=install,
    )
