"""What a role says of its app: which releases there are, and the files that they consist of."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

import msgspec

from appbundle.errors import CorruptError
from appbundle.names import AppName, Digest, Version, is_version
from appbundle.repository.trusted import Target

_Hex = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]


class _Sidecar(msgspec.Struct, frozen=True):
    path: str
    previous: _Hex = msgspec.field(name="from")


class _Said(msgspec.Struct, frozen=True):
    version: str
    release: Annotated[int, msgspec.Meta(ge=0)]
    digest: _Hex
    summary: str = ""
    channels: tuple[str, ...] = ()
    entitlements: tuple[str, ...] = ()
    manifest: _Sidecar | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ManifestPatch:
    """A manifest as a patch from another one.

    Args:
        previous: Digest of the manifest that it was made against.
        target: The file.
    """

    previous: Digest
    target: Target


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """A version of an app in a repository, as its publisher vouches for it.

    Args:
        version: Its name.
        number: Its release number; only this is ever compared.
        digest: SHA-256 of its plain manifest.
        bundle: The bundle file.
        channels: Those in which it is.
        summary: One line, or empty.
        entitlements: What its services are allowed beyond the least.
        patch: Of its manifest, or None.
    """

    version: Version
    number: int
    digest: Digest
    bundle: Target
    channels: tuple[str, ...] = ()
    summary: str = ""
    entitlements: tuple[str, ...] = ()
    patch: ManifestPatch | None = None


def bundle_path(app: str, version: str) -> str:
    """The target path of a version's bundle."""
    return f"{app}/{app}-{version}.bundle"


def read_releases(app: AppName, targets: Mapping[str, Target]) -> tuple[Release, ...]:
    """Find the releases among a role's targets.

    Args:
        targets: By target path.

    Returns:
        The newest first.

    Raises:
        CorruptError: A bundle's metadata are not as appb writes them.
    """
    bundles = {path: each for path, each in targets.items() if path.endswith(".bundle")}
    found = (_release(app, path, each, targets) for path, each in bundles.items())
    return tuple(sorted(found, key=lambda each: each.number, reverse=True))


def _release(app: AppName, path: str, bundle: Target, targets: Mapping[str, Target]) -> Release:
    try:
        said = msgspec.convert(bundle.custom.get("appb"), _Said)
    except msgspec.ValidationError as error:
        raise CorruptError(f"the metadata of {path} are not a release's: {error}") from error
    if not is_version(said.version) or path != bundle_path(app, said.version):
        raise CorruptError(f"the metadata of {path} are those of another version")
    return Release(
        version=Version(said.version),
        number=said.release,
        digest=Digest(said.digest),
        bundle=bundle,
        channels=said.channels,
        summary=said.summary,
        entitlements=said.entitlements,
        patch=_patch(said.manifest, targets),
    )


def _patch(said: _Sidecar | None, targets: Mapping[str, Target]) -> ManifestPatch | None:
    """A patch is only a shortcut: one that is missing is none."""
    target = targets.get(said.path) if said else None
    return ManifestPatch(previous=Digest(said.previous), target=target) if said and target else None
