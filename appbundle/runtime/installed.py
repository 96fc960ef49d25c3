"""What `appb run` must know of an installed version, read with next to no imports.

The paths are those of `appbundle.layout`, which costs more to import than all of this.
"""

from __future__ import annotations

import os

from appbundle.errors import AppbError, BuildError, CorruptError, NotFoundError, UnsupportedError
from appbundle.runtime.plan import Service, mount_points
from appbundle.system import mounts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    make_scanner: Callable[[object], Callable[[str, int], tuple[Any, int]]]
else:
    # What `json` itself reads with; without that package, which costs 7 ms for the sake of `re`.
    from _json import make_scanner

_KEPT = "nothing was started"
_REPAIR = "appb repair restores it from the bundle file"


def current_version(root: str, name: str) -> str:
    """The version of an app that this node runs now.

    Raises:
        NotFoundError: None is current.
    """
    try:
        target = os.readlink(os.path.join(root, "apps/.appb/generations/current", name))
    except FileNotFoundError as e:
        raise NotFoundError(
            f"{name} has no current version",
            kept=_KEPT,
            hint=f"name one: {name}@VERSION (appb list)",
        ) from e
    return target.rpartition("/")[2]


def tree_path(root: str, name: str, version: str) -> str:
    """The directory of a version."""
    return os.path.join(root, "apps", name, version)


def read_service(root: str, name: str, version: str, command: tuple[str, ...]) -> Service:
    """Read what a version declares to run.

    Args:
        command: What to run instead of the declared program; may be empty.

    Raises:
        NotFoundError: The version is not installed, or declares nothing and `command` is empty.
        CorruptError: Its description is damaged.
        UnsupportedError: It needs the host's own /usr.
    """
    path = os.path.join(tree_path(root, name, version), ".bundle/about.json")
    try:
        with open(path, "rb") as file:
            manifest = decode(file.read())["manifest"]
        base = manifest.get("requires", {}).get("base", "")
        service = _service(name, manifest.get("run"), command)
    except (FileNotFoundError, NotADirectoryError) as e:
        raise NotFoundError(
            f"{name} {version} is not installed", kept=_KEPT, hint="appb list shows what is"
        ) from e
    except (ValueError, TypeError, KeyError, AttributeError) as e:
        raise CorruptError(f"{path} is damaged: {e}", kept=_KEPT, hint=_REPAIR) from e
    if base:
        raise UnsupportedError(
            f"{name} {version} is built on the host's {base}, which appb run cannot do yet",
            kept=_KEPT,
        )
    return service


def require_mount_points(root: str, name: str, version: str) -> None:
    """Check that a tree has every directory that something is mounted on.

    Raises:
        BuildError: Some are missing or links; `issues` has them all.
    """
    tree = tree_path(root, name, version)
    try:
        tree_fd = os.open(tree, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as e:
        raise AppbError(f"cannot open {tree}: {e.strerror}", kept=_KEPT) from e
    try:
        missing = tuple(f"/{p}" for p in mount_points(name) if not _is_directory(tree_fd, p))
    finally:
        os.close(tree_fd)
    if missing:
        raise BuildError(
            f"the tree of {name} {version} lacks mount points: {', '.join(missing)}",
            issues=missing,
            kept=_KEPT,
            hint="appb build makes these directories; build the bundle again",
        )


class _Settings:
    """What the scanner asks its decoder for."""

    strict = True
    object_hook = None
    object_pairs_hook = None
    parse_float = float
    parse_int = int
    parse_constant = float
    memo: dict[str, str] = {}  # noqa: RUF012


def decode(raw: bytes) -> Any:
    """Decode JSON, as `json.loads`.

    Raises:
        ValueError: It is malformed.
    """
    text = raw.decode().strip(" \t\n\r")
    try:
        value, end = make_scanner(_Settings)(text, 0)
    except (StopIteration, SystemError, ValueError):
        # The scanner cannot say what is wrong unless json is there.
        end = -1
    if end != len(text):
        import json

        return json.loads(text)
    return value


def _service(name: str, run: dict[str, Any] | None, command: tuple[str, ...]) -> Service:
    if run is None and not command:
        raise NotFoundError(
            f"{name} declares no command", kept=_KEPT, hint=f"name one: appb run {name} -- COMMAND"
        )
    declared = run or {}
    argv = command or tuple(declared["argv"])
    environment = tuple(declared.get("environment", {}).items())
    network, directory = declared.get("network", "host"), declared.get("directory", "/")
    texts = (*argv, directory, network, *(text for pair in environment for text in pair))
    if not argv or not all(isinstance(text, str) and "\0" not in text for text in texts):
        raise ValueError("its command is not a list of words")
    if network not in ("host", "none"):
        raise ValueError("its network is neither host nor none")
    return Service(
        name=name, argv=argv, environment=environment, directory=directory, network=network
    )


def _is_directory(tree_fd: int, path: str) -> bool:
    try:
        fd = mounts.open_beneath(tree_fd, path)
    except OSError:
        return False
    try:
        os.close(os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=fd))
    except NotADirectoryError:
        return False
    finally:
        os.close(fd)
    return True
