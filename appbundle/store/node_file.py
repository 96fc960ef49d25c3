"""Node files: which apps a node shall have, and their settings. docs/node-file.md."""

import os
import stat
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec

from appbundle.bundle.text import is_harmless
from appbundle.errors import NotFoundError, UsageError
from appbundle.names import AppName, escape, parse_app_name, parse_version

MAX_SIZE = 1 << 20
"""Bytes of a node file."""
_NODE_SETTINGS = frozenset({"retention", "services", "threshold"})
_HINT = "see docs/node-file.md"


class FromFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A value that stands in a file of its own.

    Args:
        file: Its path, relative to the node file.
    """

    file: str


Value = str | int | bool | FromFile


class Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An app of a node file.

    Args:
        version: The only one that is wanted.
        channel: The newest release of this one is wanted.
        bundle: The bundle file that is wanted, relative to the node file.
        settings: Values by name; they count more than those for all apps.
    """

    version: str = ""
    channel: str = ""
    bundle: str = ""
    settings: dict[str, Value] = {}


class _Document(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    apps: dict[str, Entry]
    settings: dict[str, Value] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeFile:
    """What a node shall have.

    Args:
        path: Of the file.
        apps: All of them; others leave.
        settings: For each app that declares them.
    """

    path: Path
    apps: Mapping[AppName, Entry]
    settings: Mapping[str, Value]

    @property
    def title(self) -> str:
        """Its name, escaped."""
        return escape(self.path.name)

    def place(self, path: str) -> Path:
        """Where a path in it leads."""
        return self.path.parent / path


def read(path: Path) -> NodeFile:
    """Read a node file.

    Raises:
        NotFoundError: It is not there, or cannot be read.
        UsageError: It is no node file; says where.
    """
    title = escape(path.name)
    try:
        document = msgspec.convert(tomllib.loads(_read(path).decode()), _Document)
        apps = {parse_app_name(name): _checked(name, each) for name, each in document.apps.items()}
        for values in (document.settings, *(each.settings for each in apps.values())):
            _check_values(values)
    except (ValueError, msgspec.ValidationError, RecursionError) as error:
        raise UsageError(f"{title}: {error}", hint=_hint(str(error))) from error
    except UsageError as error:
        raise UsageError(f"{title}: {error.what}", hint=error.hint or _HINT) from error
    # Absolute, as `-` would be standard input.
    return NodeFile(path=Path(os.path.abspath(path)), apps=apps, settings=document.settings)


def _hint(problem: str) -> str:
    if any(f"unknown field `{key}`" in problem for key in _NODE_SETTINGS):
        return "that belongs into /etc/appbundle/node.toml: docs/node-settings.md"
    return _HINT


def _read(path: Path) -> bytes:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise NotFoundError(f"{escape(str(path))} cannot be read: {error.strerror}") from error
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise UsageError("it is no regular file")
        with open(fd, "rb", closefd=False) as file:
            raw = file.read(MAX_SIZE + 1)
    finally:
        os.close(fd)
    if len(raw) > MAX_SIZE:
        raise UsageError(f"it has more than {MAX_SIZE} bytes")
    return raw


def _checked(name: str, entry: Entry) -> Entry:
    chosen = [each for each in (entry.version, entry.channel, entry.bundle) if each]
    if len(chosen) > 1:
        raise UsageError(f"{name}: only one of version, channel and bundle is said")
    if entry.version:
        parse_version(entry.version)
    _check_path(entry.bundle)
    return entry


def _check_values(values: Mapping[str, Value]) -> None:
    for value in values.values():
        if isinstance(value, FromFile):
            _check_path(value.file)


def _check_path(path: str) -> None:
    if not is_harmless(path):
        raise UsageError(f"no path: {escape(path)}")


def text_of(value: Value, node_file: NodeFile) -> str:
    """A value as settings have it.

    Raises:
        AppbError: As `value_file.read`.
    """
    match value:
        case FromFile():
            from appbundle.store import value_file

            return value_file.read(node_file.place(value.file))
        case bool():
            return "true" if value else "false"
        case _:
            return str(value)
