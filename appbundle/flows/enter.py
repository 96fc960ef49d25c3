"""Run a program inside a running service: in its namespaces, as its user, as confined as it is."""

from __future__ import annotations

import os

from appbundle.errors import NotFoundError, UsageError
from appbundle.flows.run import parse_ref
from appbundle.runtime import enter, find, installed
from appbundle.runtime.find import Process
from appbundle.runtime.identity import USER_PREFIX
from appbundle.runtime.plan import Place, User, entering, plan

SHELLS = ("/bin/bash", "/bin/sh", "/usr/bin/bash", "/usr/bin/sh")
"""What `shell` looks for in a bundle, in this order."""
_KEPT = "nothing was started"


def execute(root: str, ref: str, argv: tuple[str, ...], *, is_next: bool = False) -> int:
    """Run a program to its end; the calling process should end after it.

    Args:
        root: The node's root directory.
        ref: `APP[/SERVICE]` as typed.
        argv: The program, in the service's tree, and its arguments; empty for a shell.
        is_next: In the service's second instance.

    Returns:
        How it ended, as of waitpid(2).

    Raises:
        NotFoundError: The service does not run, or there is no such program.
    """
    root = os.path.abspath(root)
    process = _find(root, ref, is_next=is_next)
    command = argv or (_shell(process),)
    wanted = "" if process.service == process.app else process.service
    generation = installed.current_generation(root)
    service = installed.read_service(
        root, process.app, process.version, command, wanted=wanted, generation=generation
    )
    user = _user(process)
    place = Place(
        root=root,
        tree=installed.tree_path(root, process.app, process.version),
        outer_ids=None if os.geteuid() == 0 else (os.geteuid(), os.getegid()),
    )
    whole = plan(service, user, place)
    environment = {k: v for k, v in whole.environment if k != "NOTIFY_SOCKET"}
    if not argv:
        environment["TERM"] = os.environ.get("TERM", "dumb")
    return enter.run(
        process,
        entering(service, user, place),
        argv=command,
        environment=environment,
        entitlements=service.entitlements,
        umask=whole.umask,
    )


def _find(root: str, ref: str, *, is_next: bool) -> Process:
    app, version, service = parse_ref(ref)
    if version:
        raise UsageError("a running service has its version already", hint=f"appb exec {app}")
    running = [each for each in find.find(root, app=app) if each.is_next == is_next]
    wanted = [each for each in running if each.service == (service or app)]
    if not wanted and not service and len(running) == 1:
        wanted = running
    if wanted:
        return wanted[0]
    others = ", ".join(f"{each.app}/{each.service}" for each in running)
    raise NotFoundError(
        f"{ref} does not run",
        kept=_KEPT,
        hint=f"what runs: {others}" if others else f"appb run {ref} -- COMMAND",
    )


def _user(process: Process) -> User:
    """Whom a process runs as, in its own user namespace."""
    status = os.stat(f"/proc/{process.pid}")
    return User(
        name=USER_PREFIX + process.app,
        uid=_inner(process.pid, "uid_map", status.st_uid),
        gid=_inner(process.pid, "gid_map", status.st_gid),
    )


def _inner(pid: int, name: str, outer: int) -> int:
    with open(f"/proc/{pid}/{name}", encoding="utf-8") as file:
        for line in file:
            inside, outside, count = map(int, line.split())
            if outside <= outer < outside + count:
                return inside + outer - outside
    return outer


def _shell(process: Process) -> str:
    for path in SHELLS:
        # Only asked, never opened: where an absolute link leads here is of no importance.
        if os.path.lexists(f"/proc/{process.pid}/root{path}"):
            return path
    raise NotFoundError(
        f"the bundle of {process.app} has no shell",
        kept=_KEPT,
        hint=f"appb exec {process.app} -- PROGRAM runs one of its own programs",
    )
