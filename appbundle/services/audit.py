"""What a service declares against what its running process has; from values, nothing is looked at.

A unit's text proves nothing: settings are dropped in silence where a kernel or a manager lacks
something. So each protection is read off the process, on any backend alike.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from appbundle.bundle import confinement
from appbundle.bundle.services import Service
from appbundle.names import AppName, Version
from appbundle.system.confined import Facts, Mounted

_HARMLESS_DEVICES = frozenset(
    {"null", "zero", "full", "random", "urandom", "tty", "ptmx", "pts/ptmx", "console"}
)
_OWN_MEMORY = ("tmpfs", "ramfs", "mqueue", "devpts", "proc", "hugetlbfs", "devtmpfs")
"""File systems that are the sandbox's own, or have no files."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One protection.

    Args:
        protection: What it is about.
        declared: What should be.
        effective: What is.
        holds: Whether that is at least as tight.
    """

    protection: str
    declared: str
    effective: str
    holds: bool


def audit(
    app: AppName, version: Version, service: Service, facts: Facts, *, uid: int
) -> tuple[Finding, ...]:
    """Compare.

    Args:
        version: Which the process should run from.
        uid: Of the app's user.
    """
    return (
        _root(app, version, facts),
        _user(uid, facts),
        Finding(
            protection="no new privileges",
            declared="yes",
            effective="yes" if facts.no_new_privileges else "no",
            holds=facts.no_new_privileges,
        ),
        _capabilities(service, facts),
        Finding(
            protection="system calls",
            declared="filtered",
            effective={0: "not filtered", 1: "strict", 2: "filtered"}[facts.seccomp],
            holds=facts.seccomp == 2,
        ),
        *_namespaces(service, facts),
        _writable(app, service, facts),
        _devices(service, facts),
        _processes(service, facts),
        *_limits(service, facts),
    )


def _root(app: AppName, version: Version, facts: Facts) -> Finding:
    root = facts.mount_at("/")
    source = root.source if root else "nothing"
    is_tree = source.endswith(f"/{app}/{version}")
    return Finding(
        protection="root",
        declared=f"{app} {version}, read-only",
        effective=f"{source}, {'writable' if root and root.is_writable else 'read-only'}",
        holds=root is not None and is_tree and not root.is_writable,
    )


def _user(uid: int, facts: Facts) -> Finding:
    ids = {*facts.uids, *facts.gids, *facts.groups}
    return Finding(
        protection="user",
        declared=f"{uid}, no other group",
        effective=f"{facts.uids[1]}, groups {', '.join(map(str, facts.groups)) or 'none'}",
        holds=ids == {uid},
    )


def _capabilities(service: Service, facts: Facts) -> Finding:
    opened = [confinement.parse(each) for each in service.entitlements]
    names = confinement.capabilities(opened)
    allowed = sum(1 << confinement.CAPABILITIES.index(name) for name in names)
    everything = 0
    for bits in facts.capabilities.values():
        everything |= bits
    found = [
        name for number, name in enumerate(confinement.CAPABILITIES) if everything >> number & 1
    ]
    return Finding(
        protection="capabilities",
        declared=", ".join(names) or "none",
        effective=", ".join(found) or "none",
        holds=everything & ~allowed == 0,
    )


def _namespaces(service: Service, facts: Facts) -> Iterator[Finding]:
    kinds = {confinement.parse(each).kind for each in service.entitlements}
    wanted = {"mnt": "files", "ipc": "inter-process communication"}
    if not kinds & {"network-out", "listen", "bind-low", "netlink"}:
        wanted["net"] = "network"
    for name, words in wanted.items():
        own = name in facts.namespaces
        yield Finding(
            protection=f"{words} of its own",
            declared="yes",
            effective="yes" if own else "no",
            holds=own,
        )


def _writable(app: AppName, service: Service, facts: Facts) -> Finding:
    opened = [confinement.parse(each) for each in service.entitlements]
    allowed = {each.argument for each in opened if each.kind in ("write", "device")}
    on_top = {each.point: each for each in facts.mounts}
    found = sorted(
        point
        for point, each in on_top.items()
        if each.is_writable
        and point not in allowed
        and not _is_own_memory(each)
        and not _is_own_directory(app, each)
    )
    return Finding(
        protection="writable files",
        declared="state, cache, logs, run-time files"
        + "".join(f", {each.argument}" for each in opened if each.kind == "write"),
        effective=f"also {', '.join(found)}" if found else "no more than that",
        holds=not found,
    )


def _is_own_directory(app: AppName, mounted: Mounted) -> bool:
    """Whether something is one of the app's directories, or a /tmp that nobody else sees."""
    if mounted.point in ("/tmp", "/var/tmp"):  # noqa: S108 (the sandbox's own)
        return mounted.kind == "tmpfs" or "/systemd-private-" in mounted.source
    places = {f"/var/{name}/{app}": name for name in ("lib", "cache", "log")} | {f"/run/{app}": ""}
    place = places.get(mounted.point)
    # /var or /var/lib may be a file system of its own; then the source lacks that part.
    return place is not None and (
        mounted.kind == "tmpfs" or mounted.source.endswith((f"{place}/{app}", f"private/{app}"))
    )


def _is_own_memory(mounted: Mounted) -> bool:
    # A piece of the host's /run or /dev is a tmpfs as well, but a piece; devices are told apart.
    return mounted.kind in _OWN_MEMORY and (
        mounted.source == "/" or mounted.point.startswith(("/dev/", "/run/"))
    )


def _devices(service: Service, facts: Facts) -> Finding:
    opened = [confinement.parse(each) for each in service.entitlements]
    allowed = {each.argument.removeprefix("/dev/") for each in opened if each.kind == "device"}
    more = sorted(
        name
        for name in facts.devices - _HARMLESS_DEVICES - allowed
        if not name.startswith(("pts/", "shm/"))
    )
    return Finding(
        protection="devices",
        declared=", ".join(sorted(allowed)) or "none but null, zero, random and the like",
        effective=f"also {', '.join(more[:8])}" if more else "no more than that",
        holds=not more,
    )


def _processes(service: Service, facts: Facts) -> Finding:
    proc = facts.mount_at("/proc")
    options = proc.options if proc else frozenset()
    own = "pid" in facts.namespaces
    hidden = own or any(each in options for each in ("hidepid=invisible", "hidepid=2"))
    return Finding(
        protection="other users' processes",
        declared="invisible",
        effective="invisible" if hidden else "visible",
        holds=hidden,
    )


def _limits(service: Service, facts: Facts) -> Iterator[Finding]:
    limits = service.limits
    wanted = {"memory": limits.memory_bytes, "tasks": limits.tasks, "cpu": limits.cpu_percent}
    units = {"memory": "bytes", "tasks": "tasks", "cpu": "% of a core"}
    for name, value in wanted.items():
        if not value:
            continue
        found = facts.limits.get(name)
        yield Finding(
            protection=f"limit of {name}",
            declared=f"{value} {units[name]}",
            effective="none: no control group holds it" if found is None else f"{found}",
            # Memory is limited in whole pages.
            holds=found is not None and found <= value + 65_536 * (name == "memory"),
        )
    yield Finding(
        protection="limit of open files",
        declared=str(limits.open_files),
        effective=str(facts.open_files),
        holds=facts.open_files <= limits.open_files,
    )
