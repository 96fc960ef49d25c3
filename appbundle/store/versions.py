"""Installed versions: what is there, and the short description that each carries."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from appbundle.bundle.manifest import Manifest
from appbundle.errors import CorruptError, NotFoundError
from appbundle.layout import BUNDLE_DIR, MANIFEST_FRAME, Layout
from appbundle.names import AppName, BundleRef, Digest, Version
from appbundle.store import listed

if TYPE_CHECKING:
    from appbundle.trust.verify import VerifiedBundle


class About(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a node says of an installed version without opening its manifest.

    Args:
        manifest: The manifest with empty tables.
        digest: The manifest's SHA-256: the bundle's identity.
        files: How many.
        size_bytes: Of all contents together.
        installed_at: Seconds since the epoch.
        signers: Fingerprints of the trusted keys that had signed.
    """

    manifest: Manifest
    digest: Digest
    files: int
    size_bytes: int
    installed_at: int
    signers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Installed:
    """One version on disk."""

    name: AppName
    version: Version
    about: About


def describe(bundle: "VerifiedBundle", *, installed_at: int) -> About:
    """Summarise a verified bundle."""
    manifest = bundle.manifest
    return About(
        manifest=msgspec.structs.replace(
            manifest, directories=(), links=(), files=(), frames=(), outward=()
        ),
        digest=bundle.statement.manifest_sha256,
        files=len(manifest.files),
        size_bytes=sum(file.size for file in manifest.files),
        installed_at=installed_at,
        signers=bundle.signers,
    )


def read_about(layout: Layout, name: AppName, version: Version) -> About | None:
    """Read a version's description, or None if it is not installed.

    Raises:
        CorruptError: The description is damaged.
    """
    path = layout.about(name, version)
    try:
        return msgspec.json.decode(path.read_bytes(), type=About)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise listed.damaged(path, name, version, error) from error


def find(layout: Layout, ref: BundleRef, *, current: Version | None) -> Installed:
    """Find the version that a person means: the named one, or else the current one.

    Raises:
        NotFoundError: It is not installed, or no version was named and none is current.
    """
    version = ref.version or current
    if version is None and not listed.version_names(layout, ref.name):
        raise NotFoundError(f"{ref.name} is not installed", hint="appb list shows what is")
    if version is None:
        raise NotFoundError(
            f"{ref.name} has no current version", hint=f"name one: {ref.name}@VERSION (appb list)"
        )
    about = read_about(layout, ref.name, version)
    if about is None:
        raise NotFoundError(
            f"{ref.name} {version} is not installed", hint="appb list shows what is"
        )
    return Installed(name=ref.name, version=version, about=about)


def manifest_frame(layout: Layout, name: AppName, version: Version) -> bytes:
    """Read the manifest frame that a version was installed from.

    Raises:
        CorruptError: It is gone.
    """
    path = layout.version(name, version) / BUNDLE_DIR / MANIFEST_FRAME
    try:
        return path.read_bytes()
    except OSError as error:
        raise CorruptError(
            f"{path} cannot be read", hint="appb repair restores it from the bundle file"
        ) from error
