"""What every kind of source is given and gives: the site it works on, pins, components."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import msgspec

from appbundle.names import AppName, Version

DIFFERS_HINT = "find out which of both is right; --update-lock accepts what came"
"""For inputs that are not what the lock says."""

_SHA256 = re.compile(r"[0-9a-f]{64}")
_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+:~!_%-]*")
"""Names of packages and files, and versions: nothing that a path, a shell or an option could be."""


class Report(Protocol):
    """Where a build says what it is doing."""

    def step(self, text: str) -> None:
        """Begin something that may take a while."""

    def advance(self, done: int, total: int) -> None:
        """Say how far the step is, in bytes or things."""

    def note(self, text: str) -> None:
        """Say something worth knowing that is not the result."""


class Pin(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, omit_defaults=True
):
    """One locked input: a file that a source downloads.

    Args:
        name: Of the package, as its registry spells it.
        version: Exact.
        file: The name of the file in the registry and in the cache.
        sha256: Of that file.
        tool: It is needed to build others, and not in the bundle.

    Raises:
        ValueError: A name is none, or the digest is not 64 lower-case hexadecimal digits.
    """

    name: str
    version: str
    file: str
    sha256: str
    tool: bool = False

    def __post_init__(self) -> None:
        """Refuse what would be something else than a name where it is used."""
        for text in (self.name, self.version, self.file):
            if not _WORD.fullmatch(text):
                raise ValueError(f"not a name, version or file name: {text!r}")
        if not _SHA256.fullmatch(self.sha256):
            raise ValueError(f"not a SHA-256 in lower-case hexadecimal digits: {self.sha256!r}")


@dataclass(frozen=True, slots=True)
class Component:
    """One thing that went into a tree, for the bill of materials.

    Args:
        name: Of the package, or the path of a file.
        version: May be empty for files.
        sha256: Of the package's file, or of the file itself.
        purl: A package URL.
    """

    name: str
    version: str
    sha256: str
    purl: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """Where a source works.

    Args:
        tree: What sources before this one have filled; the source adds to it.
        directory: The recipe's.
        cache: For downloads; survives builds.
        scratch: An empty directory of this source's own; removed afterwards.
        name: The app.
        version: Of the bundle.
        environment: The caller's environment variables.
        report: Whom to tell.
    """

    tree: Path
    directory: Path
    cache: Path
    scratch: Path
    name: AppName
    version: Version
    environment: dict[str, str]
    report: Report


@dataclass(frozen=True, slots=True, kw_only=True)
class Added:
    """What a source has added to the tree.

    Args:
        pins: Its locked inputs; empty if its inputs lie beside the recipe or on the host.
        components: For the bill of materials.
        moved_on: The pins are newer than the lock's, which could not be had any more.
    """

    pins: tuple[Pin, ...] = ()
    components: tuple[Component, ...] = ()
    moved_on: bool = False


class Source(Protocol):
    """One entry of a recipe's `sources`, decoded from TOML.

    A kind is a frozen `msgspec.Struct` whose fields are the keys of its table, with a method
    `add`; it becomes known to recipes by a line in `appbundle.build.sources.KINDS`.
    """

    def add(self, site: Site, pins: tuple[Pin, ...] | None) -> Added:
        """Add to the tree.

        Args:
            site: Where.
            pins: What the lock says for this source; None to decide anew what to take.

        Raises:
            BuildError: An input is missing, gone, or not what the lock says.
        """
