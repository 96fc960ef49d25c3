"""`appb info`, `diff`: what a bundle or version is, and what differs; nothing changes."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from appbundle.bundle.declared import declared
from appbundle.bundle.manifest import Manifest
from appbundle.bundle.statement import Signed
from appbundle.errors import NotFoundError, UsageError
from appbundle.flows import authenticity
from appbundle.flows.arguments import is_path
from appbundle.flows.consequences import SettingChange, setting_changes
from appbundle.flows.context import Context
from appbundle.names import AppName, BundleRef, Version, parse_ref
from appbundle.repository import configured
from appbundle.store import generations, manifests, versions
from appbundle.store.source import open_source
from appbundle.store.versions import About

if TYPE_CHECKING:
    from appbundle.flows.offer import Offer


@dataclass(frozen=True, slots=True, kw_only=True)
class Described:
    """What `info` says.

    Args:
        about: The manifest without its tables, with digest and sizes.
        signed: Statement and signatures as they are in the bundle.
        installed: Whether it was asked of a node and not of a file.
        offer: What a repository offers, if that was asked.
    """

    about: About
    signed: Signed
    installed: bool
    offer: "Offer | None" = None


def info(context: Context, what: str) -> Described:
    """Describe a bundle file, an installed version, or what a repository offers.

    Args:
        what: A path (with a slash, or of something that exists), or `NAME[@VERSION]`; where that
            is not installed, a repository is asked for `NAME[@VERSION|@CHANNEL]`.

    Raises:
        TrustError: A file that this node does not trust; its manifest is not even looked at.
    """
    if is_path(what):
        with open_source(what) as source:
            authentic = authenticity.authenticate(
                source, authenticity.policies(context.layout), now=context.now
            )
            bundle = authenticity.open_bundle(source, authentic)
        about = versions.describe(bundle, installed_at=0)
        return Described(about=about, signed=bundle.signed, installed=False)
    layout, ref = context.layout, parse_ref(what)
    try:
        found = versions.find(layout, ref, current=generations.current_version(layout, ref.name))
    except NotFoundError:
        if not configured.names(layout):
            raise
        return _offered(context, ref)
    papers = manifests.read_papers(layout, found.name, found.version)
    return Described(about=found.about, signed=papers.signed, installed=True)


def _offered(context: Context, ref: BundleRef) -> Described:
    # Describing what is here must not pay for the import of TUF.
    from appbundle.flows import offer

    found = offer.look(context, ref)
    about = versions.describe(found.bundle, installed_at=0)
    return Described(about=about, signed=found.bundle.signed, installed=False, offer=found)


def statement(context: Context, what: str) -> Signed:
    """Read a bundle's statement and signatures without judging them."""
    if is_path(what):
        with open_source(what) as source:
            return source.signed()
    layout, ref = context.layout, parse_ref(what)
    found = versions.find(layout, ref, current=generations.current_version(layout, ref.name))
    return manifests.read_papers(layout, found.name, found.version).signed


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One entry that differs between two versions.

    Args:
        before: Its kind, mode and size in the first, or None.
        after: The same in the second, or None.
    """

    path: str
    before: str | None
    after: str | None
    size_change: int


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionDiff:
    """What differs between two versions of an app."""

    name: str
    before: str
    after: str
    fields: tuple[tuple[str, str, str], ...]
    files: tuple[Difference, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationDiff:
    """What differs between two generations: for each app its version in the one and the other."""

    before: int
    after: int
    apps: tuple[tuple[AppName, Version | None, Version | None], ...]
    settings: tuple[SettingChange, ...] = ()


def diff(context: Context, first: str, second: str) -> VersionDiff | GenerationDiff:
    """Compare two generations (numbers), or two versions (`NAME@VERSION` or files).

    Raises:
        UsageError: One is a generation and the other is not.
    """
    if first.isdecimal() != second.isdecimal():
        raise UsageError(
            f"{first} and {second} cannot be compared",
            hint="two generations (3 4), or two versions (nova-api@33.0.2 nova-api@34.0.0)",
        )
    if first.isdecimal():
        one = generations.read(context.layout, int(first))
        two = generations.read(context.layout, int(second))
        names = sorted({*one.apps, *two.apps})
        pairs = ((name, one.apps.get(name), two.apps.get(name)) for name in names)
        return GenerationDiff(
            before=one.number,
            after=two.number,
            apps=tuple(each for each in pairs if each[1] != each[2]),
            settings=tuple(setting_changes(one, two)),
        )
    return diff_manifests(_manifest(context, first), _manifest(context, second))


def _manifest(context: Context, what: str) -> Manifest:
    if is_path(what):
        with open_source(what) as source:
            authentic = authenticity.authenticate(
                source, authenticity.policies(context.layout), now=context.now
            )
            return authenticity.open_bundle(source, authentic).manifest
    layout, ref = context.layout, parse_ref(what)
    found = versions.find(layout, ref, current=generations.current_version(layout, ref.name))
    return manifests.read(layout, found.name, found.version)


Entry = tuple[str, int, str]


def diff_manifests(one: Manifest, two: Manifest) -> VersionDiff:
    """Compare two manifests: what they say of themselves, and every entry."""
    before, after = dict(_entries(one)), dict(_entries(two))
    differences = []
    for path in sorted({*before, *after}):
        old, new = before.get(path), after.get(path)
        if old != new:
            differences.append(
                Difference(
                    path=path,
                    before=old[0] if old else None,
                    after=new[0] if new else None,
                    size_change=(new[1] if new else 0) - (old[1] if old else 0),
                )
            )
    return VersionDiff(
        name=two.name,
        before=one.version,
        after=two.version,
        fields=tuple(_field_differences(one, two)),
        files=tuple(differences),
    )


def _entries(manifest: Manifest) -> Iterator[tuple[str, Entry]]:
    for path in manifest.directories:
        yield path, ("directory 0755", 0, "")
    for link in manifest.links:
        yield link.path, (f"link → {link.target}", 0, "")
    for file in manifest.files:
        mode = "0755" if file.executable else "0644"
        yield file.path, (f"file {mode} {file.size} bytes", file.size, file.sha256)


_COMPARED = (
    "name",
    "release",
    "summary",
    "licence",
    "homepage",
    "source",
    "requires",
    "run",
    "outward",
)


def _field_differences(one: Manifest, two: Manifest) -> Iterable[tuple[str, str, str]]:
    for name in _COMPARED:
        before, after = getattr(one, name), getattr(two, name)
        if before != after:
            yield name, _show(before), _show(after)
    old, new = dict(declared(one)), dict(declared(two))
    for name in dict.fromkeys((*old, *new)):
        if old.get(name) != new.get(name):
            yield name, old.get(name, "-"), new.get(name, "-")


def _show(value: object) -> str:
    """A field of a manifest as text: itself, or as it stands in JSON."""
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
