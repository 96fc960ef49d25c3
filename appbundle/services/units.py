"""Systemd units from a bundle's declaration: values in, texts out, nothing is looked at.

A unit refers to `/apps/APP/current`, so a switch changes none of it. Its root is an empty directory
over which the version is bound: `RootDirectory=` itself follows no links on systemd 252 and 254.
The link is followed at each start, so a process keeps the version that it was started from.

Sources: systemd.exec(5), systemd.service(5), systemd.socket(5), systemd.timer(5).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from appbundle.bundle import confinement
from appbundle.bundle.confinement import Entitlement
from appbundle.bundle.services import Service, Socket

MARK = "# appb: "
"""What the first line of each of our unit files begins with; the app's name follows."""
RELOAD = "X-AppbReload="
"""What says which signal makes a service read its configuration again.

No ExecReload: it would be run in the service's tree, where there may be no program for it, and
by then one of another version.
"""
NEXT = "next"
"""The second instance of a service, which a new version starts as; no service has this name."""

_ALWAYS = (
    "NoNewPrivileges=yes",
    "ProtectSystem=strict",
    "ProtectHome=yes",
    "PrivateTmp=yes",
    "PrivateDevices=yes",
    "PrivateIPC=yes",
    "ProtectHostname=yes",
    "ProtectClock=yes",
    "ProtectKernelTunables=yes",
    "ProtectKernelModules=yes",
    "ProtectKernelLogs=yes",
    "ProtectControlGroups=yes",
    "ProtectProc=invisible",
    "RestrictRealtime=yes",
    "RestrictSUIDSGID=yes",
    "RemoveIPC=yes",
    "LockPersonality=yes",
    "KeyringMode=private",
    "SystemCallArchitectures=native",
    "SystemCallErrorNumber=EPERM",
    "UMask=0077",
)
_HOST_FILES = ("/etc/resolv.conf", "/etc/hosts")
_IO_URING = "io_uring_enter io_uring_register io_uring_setup"


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a service's files are, as the unit names them.

    Args:
        app: Its app.
        user: Whom it runs as.
        skeleton: An empty directory that everything is mounted over.
        tree: The version: `/apps/APP/current`, or `/apps/APP/VERSION` for a second instance.
        overlays: Files of the host to show over the tree's: (source, place in the tree).
        credentials: Files that the service gets as credentials: (name, source).
    """

    app: str
    user: str
    skeleton: str
    tree: str
    overlays: tuple[tuple[str, str], ...] = ()
    credentials: tuple[tuple[str, str], ...] = ()


def unit_name(app: str, service: str, *, kind: str = "service") -> str:
    """Name a service's unit: the app's name for its main service, `APP.SERVICE` for others.

    No app's name has a dot, so no two services share a unit.
    """
    return f"{app}.{kind}" if service == app else f"{app}.{service}.{kind}"


def next_name(app: str, service: str) -> str:
    """Name the unit of a service's second instance."""
    return unit_name(app, service, kind=f"{NEXT}.service")


def socket_name(app: str, service: str, socket: Socket) -> str:
    """Name the unit that holds one of a service's sockets."""
    stem = unit_name(app, service, kind="")
    return f"{stem}socket" if socket.name == service else f"{stem}{socket.name}.socket"


def names(app: str, services: Iterable[Service]) -> Iterator[str]:
    """Name all units that `render` writes for services of an app."""
    for service in services:
        yield unit_name(app, service.name)
        yield from (socket_name(app, service.name, each) for each in service.sockets)
        if service.every:
            yield unit_name(app, service.name, kind="timer")


def render(service: Service, place: Place) -> dict[str, str]:
    """Write all units of a service but that of its second instance.

    Returns:
        File names and contents.
    """
    name = unit_name(place.app, service.name)
    sockets = [socket_name(place.app, service.name, each) for each in service.sockets]
    units = {name: _join(place.app, _service_unit(service, place, sockets))}
    for unit, socket in zip(sockets, service.sockets, strict=True):
        units[unit] = _join(place.app, _socket_unit(name, socket, place))
    if service.every:
        timer = unit_name(place.app, service.name, kind="timer")
        units[timer] = _join(place.app, _timer_unit(service, place))
    return units


def render_next(service: Service, place: Place, *, shared: bool) -> dict[str, str]:
    """Write the units of a second instance, which is never enabled.

    Args:
        shared: It is on the sockets of the lasting instance; else it gets units for its own.
    """
    name = next_name(place.app, service.name)
    sockets = [socket_name(place.app, service.name, each) for each in service.sockets]
    if shared:
        return {name: _join(place.app, _service_unit(service, place, sockets, is_next=True))}
    own = [f"{name.removesuffix('service')}{each.name}.socket" for each in service.sockets]
    units = {name: _join(place.app, _service_unit(service, place, own, is_next=True))}
    for unit, socket in zip(own, service.sockets, strict=True):
        units[unit] = _join(place.app, _socket_unit(name, socket, place))
    return units


def render_task(task: Service, place: Place) -> dict[str, str]:
    """Write the unit of a task, which is started once and removed again."""
    name = unit_name(place.app, task.name)
    return {name: _join(place.app, _service_unit(task, place, [], is_passing=True))}


def _join(app: str, lines: Iterator[str]) -> str:
    head = (
        f"{MARK}{app}\n# Written anew at each change; what you add with `systemctl edit` stays.\n"
    )
    return head + "\n".join(lines) + "\n"


def _service_unit(
    service: Service,
    place: Place,
    sockets: Sequence[str],
    *,
    is_next: bool = False,
    is_passing: bool = False,
) -> Iterator[str]:
    title = place.app if service.name == place.app else f"{place.app} {service.name}"
    yield "[Unit]"
    yield f"Description={_plain(title)}{' (new version, starting)' if is_next else ''}"
    yield " ".join(["After=network-online.target", *map(_after, service.after)])
    if sockets:
        yield f"Requires={' '.join(sockets)}"
        yield f"After={' '.join(sockets)}"
    yield ""
    yield "[Service]"
    yield from _program(service, place)
    if sockets:
        yield f"Sockets={' '.join(sockets)}"
    yield from _files(service, place)
    yield from _confinement(service)
    yield from _limits(service)
    if not is_next and not is_passing and not service.every:
        yield ""
        yield "[Install]"
        yield "WantedBy=multi-user.target"


def _after(reference: str) -> str:
    app, _, name = reference.partition("/")
    return unit_name(app, name or app)


def _program(service: Service, place: Place) -> Iterator[str]:
    match service.kind, service.ready:
        case "once", _:
            yield "Type=oneshot"
        case _, "notify":
            yield "Type=notify"
            yield "NotifyAccess=all"
        case _:
            yield "Type=exec"
    yield f"ExecStart={' '.join(map(quote_argument, service.argv))}"
    if service.reload:
        yield f"{RELOAD}SIG{service.reload}"
    if service.kind == "long":
        yield "Restart=on-failure"
        yield "RestartSec=1"
    yield "KillMode=mixed"
    yield f"KillSignal=SIG{service.stop.signal}"
    yield f"TimeoutStopSec={service.stop.timeout_s}"
    yield f"TimeoutStartSec={service.ready_timeout_s}"
    yield f"User={place.user}"
    yield f"Group={place.user}"
    yield f"WorkingDirectory={_path(service.directory)}"
    yield f"SyslogIdentifier={unit_name(place.app, service.name, kind='')[:-1]}"
    yield "Slice=appb.slice"
    home = f"/var/lib/{place.app}"
    base = {"HOME": home, "LANG": "C.UTF-8", "TMPDIR": "/tmp"}  # noqa: S108 (the service's own)
    for key, value in (base | dict(service.environment)).items():
        yield f"Environment={_quoted(f'{key}={value}')}"


def _files(service: Service, place: Place) -> Iterator[str]:
    yield f"RootDirectory={_path(place.skeleton)}"
    yield f"BindReadOnlyPaths={_path(place.tree)}:/"
    yield "MountAPIVFS=yes"
    opened = _opened(service)
    if _has_network(opened):
        yield from (f"BindReadOnlyPaths=-{path}" for path in _HOST_FILES)
    for source, target in place.overlays:
        yield f"BindReadOnlyPaths=-{_path(source)}:{_path(target)}"
    for name, source in place.credentials:
        yield f"LoadCredential={name}:{_path(source)}"
    for each in opened:
        match each.kind:
            case "read":
                yield f"BindReadOnlyPaths={_path(each.argument)}"
            case "write":
                yield f"BindPaths={_path(each.argument)}"
            case "device":
                yield f"BindPaths={_path(each.argument)}"
                yield f"DeviceAllow={_path(each.argument)} rw"
    for kind in ("State", "Cache", "Logs", "Runtime"):
        yield f"{kind}Directory={place.app}"
        yield f"{kind}DirectoryMode=0700"
    # A second instance, or a restart, must find what the first has there.
    yield "RuntimeDirectoryPreserve=yes"


def _opened(service: Service) -> list[Entitlement]:
    return [confinement.parse(each) for each in service.entitlements]


def _has_network(opened: Sequence[Entitlement]) -> bool:
    return any(each.kind in ("network-out", "listen", "bind-low") for each in opened)


def _confinement(service: Service) -> Iterator[str]:
    opened = _opened(service)
    kinds = {each.kind for each in opened}
    capabilities = [f"CAP_{each.upper()}" for each in confinement.capabilities(opened)]
    yield f"CapabilityBoundingSet={' '.join(capabilities)}"
    yield f"AmbientCapabilities={' '.join(capabilities)}"
    # A capability in a user namespace of its own would not count on the host.
    yield f"PrivateUsers={'no' if capabilities else 'yes'}"
    yield from _ALWAYS
    yield f"ProcSubset={'all' if 'procfs' in kinds else 'pid'}"
    yield f"MemoryDenyWriteExecute={'no' if 'jit' in kinds else 'yes'}"
    yield f"RestrictNamespaces={'no' if 'namespaces' in kinds else 'yes'}"
    yield f"PrivateNetwork={'no' if _has_network(opened) or 'netlink' in kinds else 'yes'}"
    if not _has_network(opened):
        yield "IPAddressDeny=any"
    yield f"RestrictAddressFamilies={' '.join(confinement.families(opened))}"
    yield "SystemCallFilter=@system-service"
    yield f"SystemCallFilter=~{' '.join(_denied_calls(opened))}"


def _denied_calls(opened: Sequence[Entitlement]) -> Iterator[str]:
    kinds = {each.kind for each in opened}
    if "capability" not in kinds:
        yield "@privileged"
    if "nice" not in kinds:
        yield "@resources"
    yield _IO_URING
    if _has_network(opened) and not kinds & {"listen", "bind-low"}:
        yield "listen"
    if _has_network(opened) and "network-out" not in kinds:
        yield "connect"


def _limits(service: Service) -> Iterator[str]:
    limits = service.limits
    yield f"MemoryMax={limits.memory_bytes}"
    yield "MemorySwapMax=0"
    yield f"TasksMax={limits.tasks}"
    yield f"LimitNOFILE={limits.open_files}"
    if limits.cpu_percent:
        yield f"CPUQuota={limits.cpu_percent}%"


def _socket_unit(name: str, socket: Socket, place: Place) -> Iterator[str]:
    yield "[Unit]"
    yield f"Description=socket {socket.name} of {name.removesuffix('.service')}"
    # Whoever stops the service means its port too; a restart is no stop, and keeps it. So nothing
    # else may need the socket. StopPropagatedFrom= would do up to systemd 253 only: from then on a
    # restart closes it.
    yield "StopWhenUnneeded=yes"
    yield ""
    yield "[Socket]"
    yield f"ListenStream={_plain(socket.listen)}"
    yield f"Backlog={socket.backlog}"
    yield f"FileDescriptorName={socket.name}"
    yield f"Service={name}"
    if socket.listen.startswith("/"):
        yield f"SocketUser={place.user}"
        yield "SocketMode=0666"
    else:
        yield "NoDelay=yes"
        # At boot the address may not be there yet: sockets are opened before any network is up.
        yield "FreeBind=yes"


def _timer_unit(service: Service, place: Place) -> Iterator[str]:
    yield "[Unit]"
    yield f"Description=when {unit_name(place.app, service.name, kind='')[:-1]} is started"
    yield ""
    yield "[Timer]"
    yield f"OnCalendar={_plain(service.every)}"
    yield "Persistent=yes"
    yield f"Unit={unit_name(place.app, service.name)}"
    yield ""
    yield "[Install]"
    yield "WantedBy=timers.target"


# Quoting: no text of a manifest has control characters; what else means something is escaped.


def _plain(text: str) -> str:
    return text.replace("%", "%%")


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{_plain(escaped)}"'


def quote_argument(text: str) -> str:
    """Quote a word of a command line, so that nothing in it is expanded."""
    return _quoted(text).replace("$", "$$")


def _path(text: str) -> str:
    """Quote a path for a setting that splits at blanks and colons."""
    if text.isascii() and not set(text) & set(" \t:\\\"'"):
        return _plain(text)
    return _quoted(text.replace(":", "\\:"))
