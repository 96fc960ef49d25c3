"""appb as it is measured: its command, and its place among the peers."""

import hashlib
import json
import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import signing
from measure import Command, command, output, run
from peers import BUNDLE, Peer, Release

from appbundle.bundle.services import Service
from bundles import Content, read_manifest, write_bundle

_BUILD_LEVEL = 12
"""As `appb build` compresses, for bundles that are made from plain trees here."""

APPB = "appb install"
"""How appb is called among the peers."""


def appb_words(*, root: Path | None = None) -> tuple[str, ...]:
    """How the installed `appb` command is called for a node, as a person would."""
    script = Path(sys.executable).with_name("appb")
    program = (str(script),) if script.exists() else (sys.executable, "-m", "appbundle")
    return (*program, *(("--root", str(root)) if root else ()))


def appb(*words: str | Path, root: Path | None = None) -> Command:
    """The command `appb` with words."""
    return command(*appb_words(root=root), *words)


def appb_json(*words: str | Path, root: Path) -> Any:
    """Run `appb --json` and return the document that it wrote."""
    return json.loads(output(appb("--json", *words, root=root)))


def use_repository(root: Path, folder: Path, url: str) -> Command:
    """The command that lets a node use the repository of a folder that is served."""
    digest = hashlib.sha256((folder / "metadata/1.root.json").read_bytes()).hexdigest()
    return appb("-q", "repo", "add", "--name", "bench", f"{url}#sha256={digest}", root=root)


def contestant(workdir: Path) -> Peer:
    """`appb install` in the place of a peer; the bundle itself is its archive."""

    def set_up(disk: Path) -> None:
        signing.trust(disk, workdir)

    def install(archive: Path, _: Release, disk: Path, __: Release | None) -> list[Command]:
        return [appb("-q", "install", archive, root=disk)]

    return Peer(
        name=APPB,
        programs=(),
        package="",
        archive=BUNDLE,
        set_up=set_up,
        install=install,
        joins=True,
    )


def release_of_bundle(bundle: Path, workdir: Path) -> Release:
    """Take a bundle to measure with: a copy with the bench's signature, and its files as a tree."""
    manifest = read_manifest(bundle)
    state = bundle.stat()
    cache = workdir / f"{manifest.name}-{manifest.version}-{state.st_size}-{state.st_mtime_ns}"
    signed, tree = cache / "signed.bundle", cache / "tree"
    if not tree.exists():
        shutil.rmtree(cache, ignore_errors=True)
        unpacked = cache / "unpacked"
        unpacked.mkdir(parents=True)
        signing.add_signature(bundle, signed, signing.signer(workdir))
        run([command("tar", "--zstd", "-xf", signed, "-C", unpacked, "--exclude=.bundle")])
        unpacked.rename(tree)
    return Release(
        name=manifest.name, version=manifest.version, tree=tree, cache=cache, bundle=signed
    )


def release_of_tree(
    tree: Path,
    workdir: Path,
    *,
    name: str,
    version: str,
    previous: Release | None = None,
    services: tuple[Service, ...] = (),
) -> Release:
    """Take a plain tree to measure with, and make a bundle of it.

    Args:
        previous: The release before; contents that it has come first in the payload.
        services: What it declares.
    """
    cache = workdir / f"{name}-{version}"
    bundle = cache / "signed.bundle"
    if not bundle.exists():
        cache.mkdir(exist_ok=True)
        since = _first_releases(previous)
        unfinished = cache / "unfinished"
        write_bundle(
            unfinished,
            name=name,
            version=version,
            release=2 if previous else 1,
            contents=contents_of(tree),
            sign=signing.signer(workdir),
            since=since,
            level=_BUILD_LEVEL,
            services=services,
        )
        unfinished.rename(bundle)
    return Release(name=name, version=version, tree=tree, cache=cache, bundle=bundle)


def contents_of(tree: Path) -> dict[str, Content]:
    """List a tree's files and links with their contents."""
    found: dict[str, Content] = {}
    for here, directories, names in os.walk(tree):
        links = [name for name in directories if os.path.islink(f"{here}/{name}")]
        for name in (*names, *links):
            path = Path(here, name)
            content = os.readlink(path) if path.is_symlink() else path
            found[str(path.relative_to(tree))] = content
    return found


def _first_releases(previous: Release | None) -> Mapping[tuple[str, str], int]:
    """For what the release before has, by path and digest: since when."""
    if previous is None:
        return {}
    return {(file.path, file.sha256): file.since for file in read_manifest(previous.bundle).files}
