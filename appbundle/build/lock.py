"""The lock: which files exactly a recipe's sources take. docs/recipes.md, "Lock".

JSON with one input a line, so that a review sees what changed.
"""

import hashlib
from pathlib import Path
from typing import Literal

import msgspec

from appbundle.build.sources.base import Pin
from appbundle.errors import BuildError
from appbundle.names import escape
from appbundle.system import files

FORMAT = 1


class LockedSource(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What one source takes.

    Args:
        kind: As in the recipe.
        asked: Digest of the source's table, to notice that the recipe asks for something else.
        inputs: Sorted by name.
    """

    kind: str
    asked: str
    inputs: tuple[Pin, ...]


class Lock(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What all sources of one release take, in the recipe's order.

    Sources that lock nothing are there with no inputs.
    """

    format: Literal[1] = 1
    architecture: str
    sources: tuple[LockedSource, ...]


def read_lock(path: Path) -> Lock | None:
    """Read a lock; None if there is none yet.

    Raises:
        BuildError: It is malformed.
    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=Lock)
    except FileNotFoundError:
        return None
    except msgspec.MsgspecError as e:
        raise BuildError(
            f"{escape(str(path))}: {escape(str(e))}", hint="make it anew with --update-lock"
        ) from e


def encode_lock(lock: Lock) -> bytes:
    """Write a lock with one input a line; the same lock always gives the same bytes."""
    sources = ",\n".join(_encode_source(source) for source in lock.sources)
    head = f'{{"format": {lock.format}, "architecture": {_json(lock.architecture)}, "sources": ['
    return f"{head}\n{sources}\n]}}\n".encode()


def write_lock(path: Path, lock: Lock) -> bool:
    """Put a lock in place of the one that is there.

    Returns:
        Whether anything changed.
    """
    content = encode_lock(lock)
    if path.exists() and path.read_bytes() == content:
        return False
    files.write_durably(path, content)
    return True


def digest_request(table: object) -> str:
    """The digest of a source's table, independent of the order of its keys."""
    encoded = msgspec.json.encode(table, order="sorted")
    return hashlib.sha256(encoded).hexdigest()


def _encode_source(source: LockedSource) -> str:
    head = f'  {{"kind": {_json(source.kind)}, "asked": {_json(source.asked)}, "inputs": ['
    lines = ",\n".join(f"    {_json(pin)}" for pin in source.inputs)
    return f"{head}\n{lines}\n  ]}}" if lines else f"{head}]}}"


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()
