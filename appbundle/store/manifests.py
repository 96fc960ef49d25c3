"""Manifests of installed versions, read from the frame that was verified when they came."""

import hashlib
from dataclasses import dataclass

from appbundle.bundle.container import open_manifest_frame
from appbundle.bundle.manifest import Manifest
from appbundle.bundle.rules import read_manifest
from appbundle.bundle.statement import Signed, parse_signed, parse_statement
from appbundle.errors import CorruptError
from appbundle.layout import BUNDLE_DIR, SIGNED, Layout
from appbundle.names import AppName, Version
from appbundle.store import listed, versions


@dataclass(frozen=True, slots=True)
class Papers:
    """What a version keeps of its bundle: enough to verify it again, offline and for ever."""

    signed: Signed
    manifest_frame: bytes


def read_papers(layout: Layout, name: AppName, version: Version) -> Papers:
    """Read signatures and manifest frame as they were in the bundle; nothing is checked.

    Raises:
        CorruptError: One is gone or malformed.
    """
    path = layout.version(name, version) / BUNDLE_DIR / SIGNED
    try:
        area = path.read_bytes()
    except OSError as error:
        raise CorruptError(f"{path} cannot be read") from error
    return Papers(parse_signed(area), versions.manifest_frame(layout, name, version))


def read(layout: Layout, name: AppName, version: Version) -> Manifest:
    """Read an installed version's manifest.

    Its signature was checked before it came here, into a directory that only root writes; this
    checks the digests again, against decay and not against an attacker.

    Raises:
        CorruptError: It is not what was installed.
    """
    papers = read_papers(layout, name, version)
    statement = parse_statement(papers.signed.statement)
    if hashlib.sha256(papers.manifest_frame).hexdigest() != statement.manifest_frame_sha256:
        raise CorruptError(
            f"the manifest of {name} {version} is damaged",
            hint="appb repair restores it from the bundle file",
        )
    return read_manifest(
        open_manifest_frame(
            papers.manifest_frame,
            size=statement.manifest_size,
            sha256=statement.manifest_sha256,
        )
    )


def find_plain(layout: Layout, name: AppName, digest_prefix: str) -> bytes | None:
    """Give the JSON of an installed version's manifest whose digest begins so, or None."""
    for each in listed.versions(layout, name):
        if each.digest.startswith(digest_prefix):
            papers = read_papers(layout, name, each.version)
            statement = parse_statement(papers.signed.statement)
            return open_manifest_frame(
                papers.manifest_frame,
                size=statement.manifest_size,
                sha256=statement.manifest_sha256,
            )
    return None
