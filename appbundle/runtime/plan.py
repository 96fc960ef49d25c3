"""What `appb run` will do, as a value: from a declaration and a node to a list of operations.

Pure: nothing here looks at the node. Later a plan can be made once, at installation.
"""

from __future__ import annotations

from appbundle.runtime import operations as do
from appbundle.runtime.value import Value
from appbundle.system import mounts, namespaces

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
MOUNT_POINTS = ("dev", "proc", "run", "tmp")
"""Directories that a bundle's tree must have for `appb run`, beside `var/lib/NAME`."""
HOST_FILES = ("etc/resolv.conf", "etc/hosts")

_DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
_DEVICE_LINKS = (
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
)
_NO_PROGRAMS = mounts.NO_SUID | mounts.NO_DEV | mounts.NO_EXEC


class Service(Value):
    """Which program is to run, from a bundle's declaration or the command line.

    Args:
        name: The app.
        argv: The program and its arguments; without a slash it is looked up in PATH, inside.
        environment: Declared variables; they win over the few that every service gets.
        directory: Working directory, absolute.
        network: `host` or `none`.
    """

    name: str
    argv: tuple[str, ...]
    environment: tuple[tuple[str, str], ...] = ()
    directory: str = "/"
    network: str = "host"


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
    """

    root: str
    tree: str
    outer_ids: tuple[int, int] | None = None


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

    def describe(self) -> list[str]:
        """One line a step."""
        steps = [step.describe() for step in (*self.starter, *self.init, *self.service)]
        variables = [f"set {key}={value}" for key, value in self.environment]
        return [*steps, *variables, f"execute {' '.join(self.argv)}"]


def plan(service: Service, user: User, place: Place) -> Plan:
    """Compile a service into the steps that start it."""
    return Plan(
        starter=_starter(user, place),
        init=_init(service, place),
        service=_service(service, user, place),
        argv=service.argv,
        environment=tuple(_environment(service, user).items()),
        unprivileged=place.outer_ids is not None,
    )


def mount_points(name: str) -> tuple[str, ...]:
    """The directories that a tree must have, without leading slashes."""
    return (*MOUNT_POINTS, state_path(name))


def state_path(name: str) -> str:
    """An app's state directory, below the node's root as below its own."""
    return f"var/lib/{name}"


def _starter(user: User, place: Place) -> tuple[do.Operation, ...]:
    # A new pid namespace holds only the caller's children; a user namespace must own it.
    if place.outer_ids is None:
        return (do.Unshare(flags=namespaces.PID),)
    outer_uid, outer_gid = place.outer_ids
    ids = do.MapUser(
        inner_uid=user.uid, inner_gid=user.gid, outer_uid=outer_uid, outer_gid=outer_gid
    )
    return (do.Unshare(flags=namespaces.USER | namespaces.PID), ids)


def _init(service: Service, place: Place) -> tuple[do.Operation, ...]:
    kinds = namespaces.MOUNT | namespaces.IPC | namespaces.UTS
    alone = service.network == "none"
    state = state_path(service.name)
    return (
        do.Unshare(flags=kinds | (namespaces.NETWORK if alone else 0)),
        do.SetHostname(name=service.name),
        *((do.RaiseLoopback(),) if alone else ()),
        do.MakePrivate(),
        do.EnterTree(path=place.tree),
        *_file_systems(privileged=place.outer_ids is None),
        do.BindDirectory(root=place.root, source=state, path=state),
        *(() if alone else (do.BindHostFile(path=path) for path in HOST_FILES)),
        do.Pivot(),
    )


def _file_systems(*, privileged: bool) -> tuple[do.Operation, ...]:
    # Group 5 is `tty`; a user namespace with one group does not know it.
    terminals = "ptmxmode=0666,mode=0620" + (",gid=5" if privileged else "")
    no_exec = mounts.NO_SUID | mounts.NO_EXEC
    return (
        do.MountNew(kind="proc", path="proc", attributes=_NO_PROGRAMS),
        do.MountNew(kind="tmpfs", path="tmp", options="mode=1777"),
        do.MountNew(kind="tmpfs", path="run", options="mode=0755"),
        do.MakeReadOnly(path="run"),
        do.MountNew(kind="tmpfs", path="dev", options="mode=0755", attributes=_NO_PROGRAMS),
        do.MakeDevices(nodes=_DEVICES, directories=("pts", "shm"), links=_DEVICE_LINKS),
        do.MountNew(kind="devpts", path="dev/pts", options=terminals, attributes=no_exec),
        do.MountNew(kind="tmpfs", path="dev/shm", options="mode=1777", attributes=_NO_PROGRAMS),
        do.MakeReadOnly(path="dev"),
    )


def _service(service: Service, user: User, place: Place) -> tuple[do.Operation, ...]:
    # In a user namespace the ids are the service's from its start on.
    become = () if place.outer_ids else _become(user)
    return (
        do.LeaveKeyring(),
        do.DropBoundingSet(),
        *become,
        do.DropCapabilities(),
        do.ChangeDirectory(path=service.directory),
    )


def _become(user: User) -> tuple[do.Operation, ...]:
    return (
        do.GivePipes(uid=user.uid, gid=user.gid),
        do.BecomeUser(uid=user.uid, gid=user.gid),
    )


def _environment(service: Service, user: User) -> dict[str, str]:
    return {
        "PATH": PATH,
        "HOME": "/" + state_path(service.name),
        "USER": user.name,
        "LANG": "C.UTF-8",
        "TMPDIR": "/tmp",  # noqa: S108 (the sandbox's own)
        **dict(service.environment),
    }
