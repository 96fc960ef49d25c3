"""What `appb run` must know of an installed version, read with next to no imports.

The paths are those of `appbundle.layout`, which costs more to import than all of this.
"""

from __future__ import annotations

import os

from appbundle.errors import (
    AppbError,
    BuildError,
    CorruptError,
    NotFoundError,
    UnsupportedError,
    UsageError,
)
from appbundle.runtime.plan import Limits, Service, Socket, mount_points
from appbundle.system import mounts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    make_scanner: Callable[[object], Callable[[str, int], tuple[Any, int]]]
else:
    # What `json` itself reads with; without that package, which costs 7 ms for the sake of `re`.
    from _json import make_scanner

RENDERED, SECRETS = ".rendered", ".secrets"
"""In a generation: files by app, and `APP.json` with its services, settings filled in."""
TASK = "task-"
"""What the names of tasks begin with, which stand among the services of a generation."""
DEFAULT_LIMITS = {"memory_bytes": 2 << 30, "tasks": 512, "cpu_percent": 0, "open_files": 65_536}
"""As `appbundle.bundle.services.Limits`."""

_GENERATIONS = "apps/.appb/generations"
_KEPT = "nothing was started"
_REPAIR = "appb repair restores it from the bundle file"


def current_version(root: str, name: str, generation: str = "current") -> str:
    """The version of an app that this node runs now.

    Args:
        generation: The number of another generation to look at.

    Raises:
        NotFoundError: None is current.
    """
    try:
        target = os.readlink(os.path.join(root, _GENERATIONS, generation, name))
    except FileNotFoundError as e:
        where = "current version" if generation == "current" else f"version in {generation}"
        raise NotFoundError(
            f"{name} has no {where}",
            kept=_KEPT,
            hint=f"name one: {name}@VERSION (appb list)",
        ) from e
    return target.rpartition("/")[2]


def current_generation(root: str) -> str:
    """The number of the current generation, or empty."""
    try:
        return os.readlink(os.path.join(root, _GENERATIONS, "current")).rpartition("/")[2]
    except FileNotFoundError:
        return ""


def overlays(root: str, generation: str, name: str) -> tuple[tuple[str, str], ...]:
    """The files that a generation has rendered for an app.

    Returns:
        For each its path below the node's root and the path in the tree that it is shown at.
    """
    top = f"{_GENERATIONS}/{generation}/{RENDERED}/{name}"
    found = []
    # No directory, the usual case, costs one call.
    for here, _, names in os.walk(os.path.join(root, top)):
        below = here[len(os.path.join(root, top)) :].strip("/")
        for each in names:
            path = f"{below}/{each}" if below else each
            found.append((f"{top}/{path}", path))
    return tuple(sorted(found))


def secrets(root: str, generation: str, name: str) -> str:
    """The directory of an app's secrets in a generation, below the node's root; empty for none."""
    path = f"{_GENERATIONS}/{generation}/{SECRETS}/{name}"
    return path if os.path.isdir(os.path.join(root, path)) else ""


def tree_path(root: str, name: str, version: str) -> str:
    """The directory of a version."""
    return os.path.join(root, "apps", name, version)


def read_service(
    root: str,
    name: str,
    version: str,
    command: tuple[str, ...],
    *,
    wanted: str = "",
    generation: str = "",
) -> Service:
    """Read what a version declares to run.

    Args:
        command: What to run instead of the declared program; may be empty.
        wanted: Which of its services; if empty the one that is named as the app, else the only one.
        generation: The one whose settings count; empty for the bundle's defaults.

    Raises:
        NotFoundError: The version is not installed, or declares nothing and `command` is empty.
        UsageError: It has several services, and none was named.
        CorruptError: Its description is damaged.
        UnsupportedError: It needs the host's own /usr, or settings that nobody has filled in.
    """
    path = os.path.join(tree_path(root, name, version), ".bundle/about.json")
    try:
        with open(path, "rb") as file:
            manifest = decode(file.read())["manifest"]
        base = manifest.get("requires", {}).get("base", "")
        declared = manifest.get("services", [])
        if declared or wanted:
            declared = _filled(root, generation, name) or declared
            chosen = _choose(name, declared, wanted)
            service = _declared(name, chosen, command, _defaults(manifest))
        else:
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


def require_mount_points(root: str, name: str, version: str, *, declared: bool = False) -> None:
    """Check that a tree has every directory that something is mounted on.

    Args:
        declared: For a declared service.

    Raises:
        BuildError: Some are missing or links; `issues` has them all.
    """
    tree = tree_path(root, name, version)
    try:
        tree_fd = os.open(tree, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as e:
        raise AppbError(f"cannot open {tree}: {e.strerror}", kept=_KEPT) from e
    try:
        missing = tuple(
            f"/{p}" for p in mount_points(name, declared=declared) if not _is_directory(tree_fd, p)
        )
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


def _choose(name: str, services: list[dict[str, Any]], wanted: str) -> dict[str, Any]:
    """Find the service that is meant."""
    by_name = {service["name"]: service for service in services}
    if wanted in by_name:
        return by_name[wanted]
    names = ", ".join(f"{name}/{each}" for each in sorted(by_name))
    if wanted:
        hint = f"it has {names}" if names else f"it has no services: appb run {name}"
        raise NotFoundError(f"{name} has no service {wanted}", kept=_KEPT, hint=hint)
    if name in by_name:
        return by_name[name]
    lasting = [each for each in services if not each["name"].startswith(TASK)]
    if len(lasting) != 1:
        raise UsageError(f"{name} has several services", kept=_KEPT, hint=f"name one: {names}")
    return lasting[0]


def _declared(
    name: str, found: dict[str, Any], command: tuple[str, ...], defaults: dict[str, str]
) -> Service:
    """Decode a service; what a manifest leaves out has its default."""

    def fill(text: str) -> str:
        return _fill(text, defaults)

    argv = command or tuple(map(fill, found["argv"]))
    pairs = found.get("environment", {}).items()
    environment = tuple((key, fill(value)) for key, value in pairs)
    directory = found.get("directory", "/")
    entitlements = tuple(found.get("entitlements", ()))
    texts = (*argv, directory, *(text for pair in environment for text in pair))
    if not argv or not all(isinstance(text, str) and "\0" not in text for text in texts):
        raise ValueError("its command is not a list of words")
    sockets = tuple(
        Socket(name=each["name"], listen=fill(each["listen"]), backlog=each.get("backlog", 511))
        for each in found.get("sockets", ())
    )
    limits = found.get("limits", {})
    return Service(
        name=name,
        service=found["name"],
        argv=argv,
        environment=environment,
        directory=directory,
        entitlements=entitlements,
        sockets=sockets,
        ready=found.get("ready", "exec"),
        limits=Limits(**{**DEFAULT_LIMITS, **limits}, declared=tuple(sorted(limits))),
    )


def _filled(root: str, generation: str, name: str) -> list[dict[str, Any]]:
    """The services of an app with a generation's settings filled in, if it has recorded them."""
    if not generation:
        return []
    path = os.path.join(root, _GENERATIONS, generation, RENDERED, f"{name}.json")
    try:
        with open(path, "rb") as file:
            found: list[dict[str, Any]] = decode(file.read())["services"]
    except FileNotFoundError:
        return []
    return found


def _defaults(manifest: dict[str, Any]) -> dict[str, str]:
    """The settings' own values, which a bundle runs with if nobody has set others."""
    settings = manifest.get("settings", [])
    return {each["name"]: each.get("default", "") for each in settings if not each.get("secret")}


def _fill(text: str, defaults: dict[str, str]) -> str:
    """Put settings' values into a text of the form `...{{ name }}...`."""
    if "{{" not in text:
        return text
    head, *rest = text.split("{{")
    for piece in rest:
        name, end, tail = piece.partition("}}")
        if not end or name.strip() not in defaults:
            raise UnsupportedError(
                f"{text} depends on settings that no generation has filled in",
                kept=_KEPT,
                hint="switch to this version first, or name a generation: --generation N",
            )
        head += defaults[name.strip()] + tail
    return head


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
