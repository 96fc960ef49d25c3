"""Which repositories a node has: a small file each, that its administrator may edit."""

import hashlib
import os
import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

import msgspec

from appbundle.errors import CorruptError, NotFoundError, UsageError
from appbundle.layout import Layout
from appbundle.names import Digest, escape
from appbundle.system import files

_NAME = re.compile(r"(?=.{1,63}\Z)[a-z0-9]+(?:[.-][a-z0-9]+)*", re.ASCII)
_SUFFIX = ".toml"
_PINNED = "root.json"


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    urls: Annotated[tuple[str, ...], msgspec.Meta(min_length=1)]
    root_sha256: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]
    redirect_hosts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Repository:
    """A repository that a node uses.

    Args:
        name: On this node.
        urls: Where it is; each should have the same files.
        root_sha256: Of the root metadata that its administrator trusts.
        redirect_hosts: Hosts to which its servers may send a client on, besides their own.
    """

    name: str
    urls: tuple[str, ...]
    root_sha256: Digest
    redirect_hosts: tuple[str, ...] = ()


def parse_name(text: str) -> str:
    """Check a repository's name: lower-case words and numbers joined by single `.` or `-`.

    Raises:
        UsageError: It is not such a name.
    """
    if not _NAME.fullmatch(text):
        raise UsageError(
            f"{escape(text)} is not a repository's name",
            hint="lower-case letters, digits and single . and -, at most 63 characters",
        )
    return text


def names(layout: Layout) -> list[str]:
    """The names of a node's repositories, sorted."""
    try:
        found = os.listdir(layout.repositories)
    except FileNotFoundError:
        return []
    stems = (each.removesuffix(_SUFFIX) for each in found if each.endswith(_SUFFIX))
    return sorted(each for each in stems if _NAME.fullmatch(each))


def read(layout: Layout, name: str) -> Repository:
    """Read what the administrator has decided about a repository.

    Raises:
        NotFoundError: The node has none of this name.
        UsageError: The file is not as it should be; says where.
        UnsupportedError: Others than the administrator can change it.
    """
    path = layout.repositories / f"{parse_name(name)}{_SUFFIX}"
    try:
        raw = files.read_trusted(path)
    except FileNotFoundError as error:
        raise NotFoundError(f"this node has no repository {name}", hint="appb repo list") from error
    try:
        content = msgspec.convert(tomllib.loads(raw.decode()), _File)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, msgspec.ValidationError) as error:
        raise UsageError(f"{path}: {error}", hint="see docs/repositories.md") from error
    return Repository(
        name=name,
        urls=content.urls,
        root_sha256=Digest(content.root_sha256),
        redirect_hosts=content.redirect_hosts,
    )


def read_all(layout: Layout) -> Iterator[Repository]:
    """Read what the node's administrator has decided about all of its repositories."""
    return (read(layout, name) for name in names(layout))


def read_pinned(layout: Layout, repository: Repository) -> bytes:
    """Read the root metadata that the administrator trusts.

    Raises:
        CorruptError: It is missing, or is another than was added.
    """
    path = layout.repository(repository.name) / _PINNED
    hint = f"appb repo remove {repository.name}, then add it again"
    try:
        raw = path.read_bytes()
    except FileNotFoundError as error:
        raise CorruptError(f"{path} is missing", hint=hint) from error
    if hashlib.sha256(raw).hexdigest() != repository.root_sha256:
        raise CorruptError(f"{path} is not what was added with {repository.name}", hint=hint)
    return raw


def add(layout: Layout, repository: Repository, pinned: bytes) -> None:
    """Make a repository the node's; the file that names it comes last."""
    state = layout.repository(repository.name)
    files.make_directories(state)
    files.write_durably(state / _PINNED, pinned)
    files.make_directories(layout.repositories)
    files.check_owner(layout.repositories)
    path = layout.repositories / f"{repository.name}{_SUFFIX}"
    files.write_durably(path, _encode(repository).encode())


def remove(layout: Layout, name: str) -> None:
    """Forget a repository, and last what is known of it."""
    path = layout.repositories / f"{parse_name(name)}{_SUFFIX}"
    try:
        path.unlink()
    except FileNotFoundError as error:
        raise NotFoundError(f"this node has no repository {name}", hint="appb repo list") from error
    files.fsync_directory(layout.repositories)
    files.remove_tree(layout.repository(name))


def _encode(repository: Repository) -> str:
    # JSON's strings and lists of strings are TOML's.
    def value(what: object) -> str:
        return msgspec.json.encode(what).decode()

    lines = [f"urls = {value(repository.urls)}", f'root_sha256 = "{repository.root_sha256}"']
    if repository.redirect_hosts:
        lines.append(f"redirect_hosts = {value(repository.redirect_hosts)}")
    return "\n".join(lines) + "\n"
