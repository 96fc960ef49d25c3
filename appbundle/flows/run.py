"""Run an installed app in the foreground, confined. ★ is the service's exec.

On the fast path of `appb run`: nothing that imports pathlib, re, dataclasses or click.
"""

from __future__ import annotations

import os

from appbundle.errors import NotFoundError, UsageError
from appbundle.runtime import descriptors, identity, installed, supervise
from appbundle.runtime.plan import Place, Plan, Service, User, plan, runtime_path, written_paths
from appbundle.runtime.value import Value
from appbundle.system import libc, signals

_LETTERS = frozenset("abcdefghijklmnopqrstuvwxyz0123456789")
_VERSION_FIRST = _LETTERS | frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
_VERSION_REST = _VERSION_FIRST | frozenset(".+~_-")


class Wish(Value):
    """What is to be run.

    Args:
        ref: `NAME[@VERSION][/SERVICE]` as typed.
        command: What to run instead of the declared program.
        generation: The number of the generation whose version and configuration it has, or empty.
        ephemeral: What it writes vanishes with it.
        is_next: It is a service's second instance.
        no_sockets: It gets none of its sockets, which its service may have.
        sockets_from: Where a node's socket holder listens, or empty.
        ready_fd: Gets a newline when the service is ready; -1 for none.
    """

    ref: str
    command: tuple[str, ...] = ()
    generation: str = ""
    ephemeral: bool = False
    is_next: bool = False
    no_sockets: bool = False
    sockets_from: str = ""
    ready_fd: int = -1


class Prepared(Value):
    """What a wish has led to.

    Args:
        service: Which service.
        user: Whom it runs as.
        plan: The steps.
    """

    service: Service
    user: User
    plan: Plan


def prepare(root: str, wish: Wish, *, create: bool = True) -> Prepared:
    """Find what to run and make its plan, and its directories if they are missing.

    Args:
        root: The node's root directory.
        wish: What.
        create: Make no directory if false.

    Raises:
        UsageError: The reference is malformed, or does not say which of several services.
        NotFoundError: It is not installed, or declares no command.
        BuildError: Its tree lacks mount points.
        ConflictError: One of its directories is someone else's.
    """
    name, version, wanted = parse_ref(wish.ref)
    root = os.path.abspath(root)
    generation = wish.generation
    version, generation = _resolve(root, name, version, generation)
    service = installed.read_service(
        root, name, version, wish.command, wanted=wanted, generation=generation
    )
    declared = bool(service.service)
    installed.require_mount_points(root, name, version, declared=declared)
    user = _user(root, service, create=create and not wish.ephemeral)
    privileged = os.geteuid() == 0
    place = Place(
        root=root,
        tree=installed.tree_path(root, name, version),
        outer_ids=None if privileged else (os.geteuid(), os.getegid()),
        ephemeral=wish.ephemeral,
        is_next=wish.is_next,
        overlays=installed.overlays(root, generation, name) if generation else (),
        # Only root may read them, so whoever runs an app without privileges has none.
        secrets=installed.secrets(root, generation, name) if generation and privileged else "",
    )
    return Prepared(service=service, user=user, plan=plan(service, user, place))


def run(root: str, wish: Wish) -> int:
    """Run it to its end; the calling process becomes its supervisor and should end after it.

    Returns:
        How the service ended, as of waitpid(2).
    """
    prepared = prepare(root, wish)
    if prepared.service.service.startswith(installed.TASK):
        # Nobody else would end it if whoever switches dies, and it changes state.
        libc.die_with_parent(signals.SIGKILL)
    listening = _listening(os.path.abspath(root), wish, prepared)
    address = os.environ.get("NOTIFY_SOCKET", "")
    readiness = None
    if prepared.plan.notifies or address or wish.ready_fd >= 0:
        readiness = descriptors.Readiness(
            ready_fd=wish.ready_fd, address=address, notifies=prepared.plan.notifies
        )
    return supervise.run(prepared.plan, listening=listening, readiness=readiness)


def parse_ref(text: str) -> tuple[str, str, str]:
    """Read `NAME[@VERSION][/SERVICE]`; what is not given is empty.

    As `appbundle.names.parse_ref`, which is asked only about what is not plainly correct.

    Raises:
        UsageError: It has another form.
    """
    whole, slash, service = text.partition("/")
    name, at, version = whole.partition("@")
    is_named = _is_name(service) if slash else not service
    if _is_name(name) and (_is_version(version) if at else not version) and is_named:
        return name, version, service
    from appbundle.names import escape
    from appbundle.names import parse_ref as parse

    ref = parse(whole)
    if not is_named:
        raise UsageError(f"not the name of a service: {escape(service)}")
    return ref.name, ref.version or "", service


def _resolve(root: str, name: str, version: str, generation: str) -> tuple[str, str]:
    """The version that is meant, and the generation whose configuration goes with it."""
    if generation:
        if not generation.isdigit():
            raise UsageError("a generation is a number", hint="appb history shows them")
        return version or installed.current_version(root, name, generation), generation
    current = installed.current_generation(root)
    if not version:
        version = installed.current_version(root, name)
    elif current and version != _version_or_none(root, name):
        # It was not made for this version.
        current = ""
    return version, current


def _version_or_none(root: str, name: str) -> str:
    try:
        return installed.current_version(root, name)
    except NotFoundError:
        return ""


def _user(root: str, service: Service, *, create: bool) -> User:
    privileged = os.geteuid() == 0
    decide = identity.prepare if privileged else identity.prepare_unprivileged
    user = decide(root, service.name, create=create)
    if create and service.service:
        paths = (*written_paths(service.name), runtime_path(service.name))
        identity.prepare_directories(root, service.name, paths, user)
    return user


def _listening(root: str, wish: Wish, prepared: Prepared) -> descriptors.Listening:
    """The sockets that the service gets: from a holder, from our own starter, or made here."""
    service = prepared.service
    if wish.no_sockets:
        return ()
    if wish.sockets_from:
        key = f"{service.name}/{service.service or service.name}"
        return descriptors.received(wish.sockets_from, key)
    found = descriptors.inherited(os.environ, os.getpid())
    if found or not service.sockets:
        return found
    if wish.ephemeral and any(each.listen.startswith("/") for each in service.sockets):
        _user(root, service, create=True)
    return descriptors.opened(root, service.name, service.sockets, prepared.user)


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
