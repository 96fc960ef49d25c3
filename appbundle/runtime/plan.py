"""What `appb run` will do, as a value: from a declaration and a node to a list of operations.

Pure: nothing here looks at the node. Later a plan can be made once, at installation.
"""

from __future__ import annotations

from appbundle.errors import UnsupportedError
from appbundle.runtime import operations as do
from appbundle.runtime import restrictions, views
from appbundle.runtime.opened import UNDECLARED, Opened
from appbundle.runtime.value import Value
from appbundle.system import mounts, namespaces

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
MOUNT_POINTS = ("dev", "proc", "run", "tmp")
"""Directories that a bundle's tree must have for `appb run`, beside `var/lib/NAME`."""
HOST_FILES = ("etc/resolv.conf", "etc/hosts")
NOTIFY_SOCKET = "run/notify"
"""Where a service says that it is ready; NOTIFY_SOCKET in its environment."""
CREDENTIALS = "run/credentials"
"""Where a service finds the app's secrets; CREDENTIALS_DIRECTORY in its environment."""

_DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
_DEVICE_LINKS = (
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
)
_NO_PROGRAMS = mounts.NO_SUID | mounts.NO_DEV | mounts.NO_EXEC


class Limits(Value):
    """What a service may use; 0 is no limit.

    Args:
        memory_bytes: Of all its processes together.
        tasks: Processes and threads.
        cpu_percent: Of one processor.
        open_files: Descriptors a process.
        declared: The names of those that the bundle gives itself, so that they must hold.
    """

    memory_bytes: int
    tasks: int
    cpu_percent: int
    open_files: int
    declared: tuple[str, ...] = ()


class Socket(Value):
    """A listening socket that a service is given; see `appbundle.bundle.services`."""

    name: str
    listen: str
    backlog: int


class Service(Value):
    """Which program is to run, from a bundle's declaration or the command line.

    Args:
        name: The app.
        argv: The program and its arguments; without a slash it is looked up in PATH, inside.
        service: Which of the app's services; empty for the manifest's `run`.
        environment: Declared variables; they win over the few that every service gets.
        directory: Working directory, absolute.
        network: For `run`: `host` or `none`.
        entitlements: What opens its confinement.
        sockets: In this order from descriptor 3 on.
        ready: `exec`, `notify` or `socket`.
        limits: What it may use.
    """

    name: str
    argv: tuple[str, ...]
    service: str = ""
    environment: tuple[tuple[str, str], ...] = ()
    directory: str = "/"
    network: str = "host"
    entitlements: tuple[str, ...] = UNDECLARED
    sockets: tuple[Socket, ...] = ()
    ready: str = "exec"
    limits: Limits | None = None

    @property
    def opened(self) -> Opened:
        """Its entitlements, read."""
        return Opened(self.entitlements)


class User(Value):
    """Whom the service runs as.

    Args:
        name: The user's name.
        uid: Its number, inside and (if root starts it) outside.
        gid: Its only group.
    """

    name: str
    uid: int
    gid: int


class Place(Value):
    """Where the service runs.

    Args:
        root: The node's root directory.
        tree: The version's directory itself, never a link that a switch may move.
        outer_ids: User and group of an unprivileged caller, or None for root.
        ephemeral: What it writes vanishes with it.
        is_next: It is a service's second instance.
        overlays: Rendered files, below the node's root, and the files of the tree that they hide.
        secrets: The directory of the app's secrets below the node's root, or empty.
    """

    root: str
    tree: str
    outer_ids: tuple[int, int] | None = None
    ephemeral: bool = False
    is_next: bool = False
    overlays: tuple[tuple[str, str], ...] = ()
    secrets: str = ""


class Plan(Value):
    """All steps, in order, in the process that does them.

    Args:
        starter: Done by the process that was called; they only matter for its children.
        init: Done by the first process of the new pid namespace.
        service: Done by the service's process just before it executes `argv`.
    """

    starter: tuple[do.Operation, ...]
    init: tuple[do.Operation, ...]
    service: tuple[do.Operation, ...]
    argv: tuple[str, ...]
    environment: tuple[tuple[str, str], ...]
    unprivileged: bool
    entitlements: tuple[str, ...]
    notifies: bool
    umask: int
    mapped_ids: tuple[int, int] | None

    def describe(self) -> list[str]:
        """One line a step."""
        steps = [step.describe() for step in (*self.starter, *self.init, *self.service)]
        variables = [f"set {key}={value}" for key, value in self.environment]
        return [*steps, *variables, f"execute {' '.join(self.argv)}"]


def plan(service: Service, user: User, place: Place) -> Plan:
    """Compile a service into the steps that start it.

    Raises:
        UnsupportedError: It needs capabilities, which this caller cannot give.
    """
    opened = service.opened
    if opened.capabilities and place.outer_ids is not None:
        raise UnsupportedError(
            f"{service.name} needs capabilities, which only root can give",
            kept="nothing was started",
        )
    owns_users = _owns_users(service, place)
    return Plan(
        starter=_starter(service, user, place),
        init=_init(service, user, place),
        service=_service(service, user, place),
        argv=service.argv,
        environment=tuple(_environment(service, user, place).items()),
        unprivileged=place.outer_ids is not None,
        entitlements=service.entitlements,
        notifies=service.ready == "notify",
        umask=0o077 if service.service else 0o022,
        mapped_ids=(user.uid, user.gid) if owns_users else None,
    )


def entering(service: Service, user: User, place: Place) -> tuple[do.Operation, ...]:
    """The steps of one more process, in the namespaces and control group of a running service."""
    # A landlock domain cannot be joined, and a second one beside it would hide the service's
    # processes from this one.
    skipped = (
        *(restrictions.JoinGroup, restrictions.OwnUsers, restrictions.RestrictFiles),
        do.GivePipes,
    )
    return tuple(each for each in _service(service, user, place) if not isinstance(each, skipped))


def mount_points(name: str, *, declared: bool = False) -> tuple[str, ...]:
    """The directories that a tree must have, without leading slashes.

    Args:
        name: The app.
        declared: For a declared service, which has more than what `run` starts.
    """
    more = (*written_paths(name), "var/tmp") if declared else ()
    return (*MOUNT_POINTS, state_path(name), *more)


def state_path(name: str) -> str:
    """An app's state directory, below the node's root as below its own."""
    return f"var/lib/{name}"


def written_paths(name: str) -> tuple[str, ...]:
    """The other directories that last: what can be made again, and what was logged."""
    return (f"var/cache/{name}", f"var/log/{name}")


def runtime_path(name: str) -> str:
    """An app's directory for sockets and the like, which lasts until the node restarts."""
    return f"run/{name}"


def group_name(app: str, service: str, *, is_next: bool = False) -> str:
    """A service's control group; no app's name has a dot, so no two services share one."""
    stem = app if service == app else f"{app}.{service}"
    return f"appb-{stem}{'.next' if is_next else ''}"


def _owns_users(service: Service, place: Place) -> bool:
    # A capability in a user namespace of its own would not count on the host.
    return bool(service.service) and place.outer_ids is None and not service.opened.capabilities


def _starter(service: Service, user: User, place: Place) -> tuple[do.Operation, ...]:
    # A new pid namespace holds only the caller's children; a user namespace must own it.
    group = _group(service, place)
    if place.outer_ids is None:
        return (*group, do.Unshare(flags=namespaces.PID))
    outer_uid, outer_gid = place.outer_ids
    ids = do.MapUser(
        inner_uid=user.uid, inner_gid=user.gid, outer_uid=outer_uid, outer_gid=outer_gid
    )
    return (*group, do.Unshare(flags=namespaces.USER | namespaces.PID), ids)


def _group(service: Service, place: Place) -> tuple[do.Operation, ...]:
    limits = service.limits
    if limits is None:
        return ()
    controllers = {"memory_bytes": "memory", "tasks": "pids", "cpu_percent": "cpu"}
    return (
        restrictions.MakeGroup(
            name=group_name(service.name, service.service, is_next=place.is_next),
            memory_bytes=limits.memory_bytes,
            tasks=limits.tasks,
            cpu_percent=limits.cpu_percent,
            declared=tuple(controllers[each] for each in limits.declared if each in controllers),
        ),
    )


def _init(service: Service, user: User, place: Place) -> tuple[do.Operation, ...]:
    kinds = namespaces.MOUNT | namespaces.IPC | namespaces.UTS
    opened = service.opened
    alone = service.network == "none" or not opened.shares_network
    resolves = opened.has_network and not alone
    home = "/" + state_path(service.name)
    return (
        do.Unshare(flags=kinds | (namespaces.NETWORK if alone else 0)),
        do.SetHostname(name=service.name),
        *((do.RaiseLoopback(),) if alone else ()),
        do.MakePrivate(),
        do.EnterTree(path=place.tree),
        *_processes(service),
        *_file_systems(service),
        views.NameUser(name=user.name, uid=user.uid, gid=user.gid, home=home),
        *_directories(service, user, place),
        *_devices(service, privileged=place.outer_ids is None),
        *_host_paths(opened),
        *_secrets(user, place),
        do.MakeReadOnly(path="run"),
        do.MakeReadOnly(path="dev"),
        *((do.BindHostFile(path=path) for path in HOST_FILES) if resolves else ()),
        *(
            views.BindOverlay(root=place.root, source=source, path=path)
            for source, path in place.overlays
        ),
        do.Pivot(),
    )


def _secrets(user: User, place: Place) -> tuple[do.Operation, ...]:
    if not place.secrets:
        return ()
    shown = views.ShowSecrets(
        root=place.root, source=place.secrets, path=CREDENTIALS, uid=user.uid, gid=user.gid
    )
    return (shown,)


def _processes(service: Service) -> tuple[do.Operation, ...]:
    if not service.service:
        return (do.MountNew(kind="proc", path="proc", attributes=_NO_PROGRAMS),)
    opened = service.opened
    mounted = views.MountProcesses(figures="procfs" in opened.kinds)
    return (mounted, *((views.ProtectTunables(),) if opened.capabilities else ()))


def _file_systems(service: Service) -> tuple[do.Operation, ...]:
    more = (do.MountNew(kind="tmpfs", path="var/tmp", options="mode=1777"),)
    return (
        do.MountNew(kind="tmpfs", path="tmp", options="mode=1777"),
        *(more if service.service else ()),
        do.MountNew(kind="tmpfs", path="run", options="mode=0755"),
        *((views.PlaceNotifySocket(path=NOTIFY_SOCKET),) if service.ready == "notify" else ()),
    )


def _devices(service: Service, *, privileged: bool) -> tuple[do.Operation, ...]:
    # Group 5 is `tty`; a user namespace with one group does not know it.
    terminals = "ptmxmode=0666,mode=0620" + (",gid=5" if privileged else "")
    no_exec = mounts.NO_SUID | mounts.NO_EXEC
    return (
        do.MountNew(kind="tmpfs", path="dev", options="mode=0755", attributes=_NO_PROGRAMS),
        do.MakeDevices(nodes=_DEVICES, directories=("pts", "shm"), links=_DEVICE_LINKS),
        do.MountNew(kind="devpts", path="dev/pts", options=terminals, attributes=no_exec),
        do.MountNew(kind="tmpfs", path="dev/shm", options="mode=1777", attributes=_NO_PROGRAMS),
        *(
            views.BindHostPath(path=path.strip("/"), kind="device", fresh=True)
            for path in service.opened.devices
        ),
    )


def _directories(service: Service, user: User, place: Place) -> tuple[do.Operation, ...]:
    """What the service may write to."""
    runtime = runtime_path(service.name)
    paths = [state_path(service.name)]
    if service.service:
        paths += [*written_paths(service.name), runtime]
    made = (views.MakeDirectories(paths=(runtime,)),) if service.service else ()
    if not place.ephemeral:
        return (*made, *(do.BindDirectory(root=place.root, source=p, path=p) for p in paths))
    options = f"mode=0700,uid={user.uid},gid={user.gid}"
    return (*made, *(do.MountNew(kind="tmpfs", path=path, options=options) for path in paths))


def _host_paths(opened: Opened) -> tuple[do.Operation, ...]:
    pairs = (*(("read", p) for p in opened.reads), *(("write", p) for p in opened.writes))
    fresh = ("/run/", "/tmp/", "/var/tmp/")  # noqa: S108 (the sandbox's own)
    return tuple(
        views.BindHostPath(path=path.strip("/"), kind=kind, fresh=path.startswith(fresh))
        for kind, path in pairs
    )


def _service(service: Service, user: User, place: Place) -> tuple[do.Operation, ...]:
    opened, limits = service.opened, service.limits
    kept = opened.capabilities
    # In a user namespace the ids are the service's from its start on.
    pipes, become = ((), ()) if place.outer_ids else _become(user, keeps=bool(kept))
    limited: tuple[do.Operation, ...] = ()
    if limits is not None:
        limited = (restrictions.JoinGroup(), restrictions.LimitFiles(count=limits.open_files))
    return (
        do.LeaveKeyring(),
        *limited,
        *pipes,
        *((restrictions.OwnUsers(),) if _owns_users(service, place) else ()),
        do.DropBoundingSet(kept=kept),
        *become,
        restrictions.KeepCapabilities(numbers=kept) if kept else do.DropCapabilities(),
        do.ChangeDirectory(path=service.directory),
        restrictions.RestrictFiles(writable=_writable(service)),
        restrictions.FilterCalls(entitlements=service.entitlements),
    )


def _writable(service: Service) -> tuple[str, ...] | None:
    opened = service.opened
    if opened.may_mount:
        return None
    own = ("/dev", "/proc", "/tmp", "/" + state_path(service.name))  # noqa: S108
    if not service.service:
        return own
    more = (*written_paths(service.name), runtime_path(service.name), "var/tmp")
    return (*own, *(f"/{path}" for path in more), *opened.writes)


def _become(
    user: User, *, keeps: bool
) -> tuple[tuple[do.Operation, ...], tuple[do.Operation, ...]]:
    """Before and after the service's user namespace."""
    return (
        (do.GivePipes(uid=user.uid, gid=user.gid),),
        (do.BecomeUser(uid=user.uid, gid=user.gid, keeps_capabilities=keeps),),
    )


def _environment(service: Service, user: User, place: Place) -> dict[str, str]:
    notify = {"NOTIFY_SOCKET": "/" + NOTIFY_SOCKET} if service.ready == "notify" else {}
    secrets = {"CREDENTIALS_DIRECTORY": "/" + CREDENTIALS} if place.secrets else {}
    return {
        "PATH": PATH,
        "HOME": "/" + state_path(service.name),
        "USER": user.name,
        "LANG": "C.UTF-8",
        "TMPDIR": "/tmp",  # noqa: S108 (the sandbox's own)
        **notify,
        **secrets,
        **dict(service.environment),
    }
