"""A release of an app as its role describes it. docs/repository-format.md, "App roles"."""

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated

import msgspec
from tuf.api.metadata import TargetFile, Targets

from appbundle.bundle.statement import RELEASE_LIMIT
from appbundle.errors import CorruptError, UsageError
from appbundle.names import AppName, Digest, Version, escape, is_version

STABLE = "stable"
"""The channel of whoever names none; a release that is in no other need not say so."""

_ONLY_STABLE = (STABLE,)
_CHANNEL = re.compile(r"[a-z][a-z0-9-]{0,30}", re.ASCII)
_PATCH = re.compile(r"from-([0-9a-f]{16})\.manifest", re.ASCII)
_PREFIX = 16
_BUNDLE = ".bundle"


class _Custom(msgspec.Struct, frozen=True, omit_defaults=True):
    """What an app's role says of a bundle beyond TUF's own length and hash."""

    digest: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]
    release: Annotated[int, msgspec.Meta(ge=0, lt=RELEASE_LIMIT)]
    channels: Annotated[tuple[str, ...], msgspec.Meta(max_length=16)] = _ONLY_STABLE


class _Envelope(msgspec.Struct, frozen=True):
    appb: _Custom


@dataclass(frozen=True, slots=True, kw_only=True)
class Patch:
    """A release's manifest as what changed since another's.

    Args:
        previous: The first 16 digits of the digest of the manifest that it was made against.
        size: Bytes of the patch.
        sha256: Of the patch.
    """

    previous: str
    size: int
    sha256: Digest


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """A bundle that a repository has.

    Args:
        app: Whose role describes it.
        version: For people.
        release: Which of two is newer.
        digest: Of the plain manifest: the bundle's identity.
        size: Bytes of the bundle file.
        sha256: Of the bundle file.
        channels: Sorted; may be empty.
        patch: Of its manifest, if there is one.
    """

    app: AppName
    version: Version
    release: int
    digest: Digest
    size: int
    sha256: Digest
    channels: tuple[str, ...] = (STABLE,)
    patch: Patch | None = None

    @property
    def target(self) -> str:
        """TUF's name of the bundle file."""
        return bundle_target(self.app, self.version)

    @property
    def patch_target(self) -> str:
        """TUF's name of the patch; there must be one."""
        assert self.patch is not None
        return patch_target(self.app, self.version, self.patch.previous)

    @property
    def path(self) -> str:
        """Where the bundle file is in the repository's folder."""
        return stored_path(self.target, self.sha256)

    @property
    def patch_path(self) -> str:
        """Where the patch is in the repository's folder; there must be one."""
        assert self.patch is not None
        return stored_path(self.patch_target, self.patch.sha256)


def bundle_target(app: AppName, version: Version) -> str:
    """TUF's name of a bundle file."""
    return f"{app}/{app}-{version}{_BUNDLE}"


def patch_target(app: AppName, version: Version, previous: str) -> str:
    """TUF's name of a manifest's patch; `previous` is a digest, or enough of its beginning."""
    return f"{app}/{app}-{version}.from-{previous[:_PREFIX]}.manifest"


def stored_path(target: str, sha256: Digest) -> str:
    """Where a target's file is in the repository's folder."""
    directory, _, name = target.rpartition("/")
    return f"targets/{directory}/{sha256}.{name}"


def digest_prefix(digest: Digest) -> str:
    """Shorten a manifest's digest as the names of patches have it."""
    return digest[:_PREFIX]


def parse_channel(text: str) -> str:
    """Check a channel's name.

    Raises:
        UsageError: It is not such a name.
    """
    if not _CHANNEL.fullmatch(text):
        raise UsageError(
            f"{escape(text)} is not a channel's name",
            hint="a lower-case letter, then letters, digits and hyphens, at most 31: stable",
        )
    return text


def encode_releases(releases: Mapping[Version, Release]) -> dict[str, TargetFile]:
    """Give the targets of an app's role: bundles and patches."""
    targets = {}
    for each in releases.values():
        # A default is left out only if it is this very tuple.
        channels = _ONLY_STABLE if each.channels == _ONLY_STABLE else each.channels
        custom = msgspec.to_builtins(_Custom(each.digest, each.release, channels))
        targets[each.target] = target_file(each.target, each.size, each.sha256)
        targets[each.target].unrecognized_fields["custom"] = {"appb": custom}
        if each.patch is not None:
            name = each.patch_target
            targets[name] = target_file(name, each.patch.size, each.patch.sha256)
    return targets


def target_file(path: str, size: int, sha256: Digest) -> TargetFile:
    """Describe a file as TUF does."""
    return TargetFile(length=size, hashes={"sha256": sha256}, path=path)


def read_releases(app: AppName, role: Targets) -> dict[Version, Release]:
    """Read what an app's verified role describes, by version; targets of other kinds are ignored.

    Raises:
        CorruptError: The role describes a bundle otherwise than this format says.
    """
    patches = _read_patches(app, role)
    found = {}
    for path, target in role.targets.items():
        version = path.removeprefix(f"{app}/{app}-").removesuffix(_BUNDLE)
        if is_version(version) and path == bundle_target(app, Version(version)):
            found[Version(version)] = _read_release(app, Version(version), target, patches)
    return found


def _read_release(
    app: AppName, version: Version, target: TargetFile, patches: Mapping[str, Patch]
) -> Release:
    try:
        custom = msgspec.convert({"appb": target.custom["appb"]}, _Envelope).appb
    except (msgspec.ValidationError, KeyError, TypeError) as error:
        raise CorruptError(f"the repository describes {app} {version} wrongly: {error}") from error
    return Release(
        app=app,
        version=version,
        release=custom.release,
        digest=Digest(custom.digest),
        size=target.length,
        sha256=sha256_of(target),
        channels=tuple(sorted({each for each in custom.channels if _CHANNEL.fullmatch(each)})),
        patch=patches.get(version),
    )


def _read_patches(app: AppName, role: Targets) -> dict[str, Patch]:
    found = {}
    for path, target in role.targets.items():
        version, _, kind = path.removeprefix(f"{app}/{app}-").rpartition(".from-")
        match = _PATCH.fullmatch(f"from-{kind}")
        if match and path == patch_target(app, Version(version), match[1]):
            found[version] = Patch(previous=match[1], size=target.length, sha256=sha256_of(target))
    return found


def sha256_of(target: TargetFile) -> Digest:
    """The one hash of a target that is used.

    Raises:
        CorruptError: There is none.
    """
    digest = target.hashes.get("sha256", "")
    if not re.fullmatch(r"[0-9a-f]{64}", digest, re.ASCII):
        raise CorruptError(f"the repository gives no SHA-256 of {escape(target.path)}")
    return Digest(digest)


def newest(releases: Iterable[Release], channels: Collection[str]) -> Release | None:
    """The release with the greatest number in any of some channels, if there is one."""
    inside = [each for each in releases if not set(channels).isdisjoint(each.channels)]
    return max(inside, key=lambda each: each.release, default=None)
