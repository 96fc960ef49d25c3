"""Run an installed app in the foreground, confined. ★ is the service's exec.

On the fast path of `appb run`: nothing that imports pathlib, re, dataclasses or click.
"""

from __future__ import annotations

import os

from appbundle.runtime import identity, installed, supervise
from appbundle.runtime.plan import Place, Plan, plan

_LETTERS = frozenset("abcdefghijklmnopqrstuvwxyz0123456789")
_VERSION_FIRST = _LETTERS | frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
_VERSION_REST = _VERSION_FIRST | frozenset(".+~_-")


def prepare(root: str, ref: str, command: tuple[str, ...] = (), *, create: bool = True) -> Plan:
    """Find what to run and make its plan, and its state directory if that is missing.

    Args:
        root: The node's root directory.
        ref: `NAME` or `NAME@VERSION` as typed.
        command: What to run instead of the declared program.
        create: Make no state directory if false.

    Raises:
        UsageError: The reference is malformed.
        NotFoundError: It is not installed, or declares no command.
        BuildError: Its tree lacks mount points.
        ConflictError: Its state directory is someone else's.
    """
    name, version = parse_ref(ref)
    root = os.path.abspath(root)
    version = version or installed.current_version(root, name)
    service = installed.read_service(root, name, version, command)
    installed.require_mount_points(root, name, version)
    privileged = os.geteuid() == 0
    decide = identity.prepare if privileged else identity.prepare_unprivileged
    user = decide(root, name, create=create)
    place = Place(
        root=root,
        tree=installed.tree_path(root, name, version),
        outer_ids=None if privileged else (os.geteuid(), os.getegid()),
    )
    return plan(service, user, place)


def run(root: str, ref: str, command: tuple[str, ...] = ()) -> int:
    """Run it to its end; the calling process becomes its supervisor and should end after it.

    Returns:
        How the service ended, as of waitpid(2).
    """
    return supervise.run(prepare(root, ref, command))


def parse_ref(text: str) -> tuple[str, str]:
    """As `appbundle.names.parse_ref`, which is asked only about what is not plainly correct."""
    name, at, version = text.partition("@")
    if _is_name(name) and (_is_version(version) if at else not version):
        return name, version
    from appbundle.names import parse_ref as parse

    ref = parse(text)
    return ref.name, ref.version or ""


def _is_name(text: str) -> bool:
    words = text.split("-")
    return (
        len(text) <= 26
        and not text[:1].isdigit()
        and all(w and _LETTERS.issuperset(w) for w in words)
    )


def _is_version(text: str) -> bool:
    return (
        0 < len(text) <= 63
        and text != "current"
        and text[0] in _VERSION_FIRST
        and _VERSION_REST.issuperset(text)
    )
