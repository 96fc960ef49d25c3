"""The names of things: apps, versions, digests, references to bundles."""

import re
from dataclasses import dataclass
from typing import NewType

from appbundle.errors import UsageError

AppName = NewType("AppName", str)
Version = NewType("Version", str)
Digest = NewType("Digest", str)
"""A SHA-256 as 64 lower-case hexadecimal digits."""

# An app runs as the user `appb-NAME`; user names end at 31 characters.
_APP_NAME = re.compile(r"(?=.{1,26}\Z)[a-z][a-z0-9]*(?:-[a-z0-9]+)*", re.ASCII)
_VERSION = re.compile(r"[0-9A-Za-z][0-9A-Za-z.+~_-]{0,62}", re.ASCII)
_DIGEST = re.compile(r"[0-9a-f]{64}", re.ASCII)
_COMMAND = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}", re.ASCII)
# Below /var/lib and /apps these are the node's own, and not an app's.
_RESERVED_APPS = frozenset({"appbundle", "bin"})
_RESERVED_VERSIONS = frozenset({"current"})

OWN = AppName("appb")
"""appb itself as an app: only files, because below /var/lib, /var/log and /run its name is taken by
the embedded supervisor."""


@dataclass(frozen=True, slots=True)
class BundleRef:
    """`NAME` or `NAME@VERSION` as typed by a person."""

    name: AppName
    version: Version | None = None

    def __str__(self) -> str:
        return self.name if self.version is None else f"{self.name}@{self.version}"


def parse_app_name(text: str) -> AppName:
    """Check an app's name: lower-case words joined by single hyphens, at most 26 characters.

    Raises:
        UsageError: It is not such a name, or is a reserved one (`appbundle`, `bin`).
    """
    if not is_app_name(text):
        raise UsageError(
            f"{escape(text)} is not an app's name",
            hint="lower-case letters, digits and single hyphens, at most 26 characters: nova-api",
        )
    return AppName(text)


def parse_version(text: str) -> Version:
    """Check a version: letters, digits and `. + ~ _ -`, at most 63 characters.

    Raises:
        UsageError: It is not such a version, or is a reserved word (`current`).
    """
    if not is_version(text):
        raise UsageError(
            f"{escape(text)} is not a version",
            hint="letters, digits and . + ~ _ - with a letter or digit first: 34.0.0",
        )
    return Version(text)


def is_app_name(text: str) -> bool:
    """Whether a name found on a disk can be an app's: `lost+found` is none."""
    return _APP_NAME.fullmatch(text) is not None and text not in _RESERVED_APPS


def is_version(text: str) -> bool:
    """The same for a version."""
    return _VERSION.fullmatch(text) is not None and text not in _RESERVED_VERSIONS


def is_command(text: str) -> bool:
    """Whether a text can be the name of a command that an app exports; `appb` is nobody's."""
    return _COMMAND.fullmatch(text) is not None and text != OWN


def parse_digest(text: str) -> Digest:
    """Check a SHA-256: exactly 64 lower-case hexadecimal digits.

    Raises:
        UsageError: It is anything else (upper case, shorter, prefixed).
    """
    if not _DIGEST.fullmatch(text):
        raise UsageError(f"{escape(text)} is not 64 lower-case hexadecimal digits")
    return Digest(text)


def parse_ref(text: str) -> BundleRef:
    """Parse `NAME` or `NAME@VERSION`.

    Raises:
        UsageError: Either part is malformed.
    """
    name, at, version = text.partition("@")
    return BundleRef(parse_app_name(name), parse_version(version) if at else None)


def is_ref(text: str) -> bool:
    """Whether a text can be `NAME` or `NAME@VERSION`."""
    name, at, version = text.partition("@")
    return is_app_name(name) and (not at or is_version(version))


def escape(text: str, *, limit: int = 256) -> str:
    """Make foreign text safe for a terminal and a log: one line, no control or bidi characters.

    What is escaped already stays as it is.

    Args:
        text: Anything, of any length.
        limit: Cut after so many characters.
    """
    cut = text if len(text) <= limit else text[:limit] + "…"
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape", "replace").decode() for c in cut
    )
