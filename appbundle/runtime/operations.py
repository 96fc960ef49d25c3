"""The steps into a sandbox: small frozen values that say what they do, and do it.

A plan is a list of them; further ones are in `views` and `restrictions`.
"""

from __future__ import annotations

import errno
import os
import stat

from appbundle.runtime.value import Value
from appbundle.system import libc, mounts, namespaces

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _socket import socket as Socket

    from appbundle.system.cgroups import Group


class Room:
    """What the steps of one start share.

    Args:
        program: The filter of system calls; empty for none.
        notify: A socket without a name yet, on which the service will say that it is ready.
    """

    def __init__(self, *, program: bytes = b"", notify: Socket | None = None) -> None:
        self.program = program
        self.notify = notify
        self.root_fd = -1
        """The sandbox's root mount, once it is there."""
        self.group: Group | None = None
        """The service's control group, once it is there."""
        self.group_fds: list[int] = []
        """What to write to to enter it."""
        self.entered_fd = self.entered_writer = self.mapped_fd = self.mapped_writer = -1
        """Pipes between the service's process and init, for `OwnUsers`."""


class Operation(Value):
    """One step."""

    def describe(self) -> str:
        """Say in a few words what `execute` does; it follows "cannot" or stands in a list."""
        raise NotImplementedError

    def execute(self, room: Room) -> None:
        """Do it, in the process that becomes the sandbox.

        Raises:
            OSError: The kernel refuses.
        """
        raise NotImplementedError


class Unshare(Operation):
    """Enter new namespaces.

    Args:
        flags: Of `appbundle.system.namespaces`.
    """

    flags: int

    def describe(self) -> str:
        kinds = [name for flag, name in namespaces.NAMES.items() if self.flags & flag]
        return f"enter new namespaces: {', '.join(kinds)}"

    def execute(self, room: Room) -> None:
        libc.unshare(self.flags)


class MapUser(Operation):
    """Name the one user and group of a new user namespace."""

    inner_uid: int
    inner_gid: int
    outer_uid: int
    outer_gid: int

    def describe(self) -> str:
        return f"map user {self.outer_uid} to {self.inner_uid}, no other"

    def execute(self, room: Room) -> None:
        namespaces.map_ids(
            inner_uid=self.inner_uid,
            inner_gid=self.inner_gid,
            outer_uid=self.outer_uid,
            outer_gid=self.outer_gid,
        )


class MakePrivate(Operation):
    """Cut the mounts off from the host's."""

    def describe(self) -> str:
        return "make all mounts private"

    def execute(self, room: Room) -> None:
        mounts.make_private()


class EnterTree(Operation):
    """Mount a version's directory, read-only with all below it, as the root to be.

    Args:
        path: The version's directory itself, not a link to it.
    """

    path: str

    def describe(self) -> str:
        return f"take {self.path} as root (ro,nosuid,nodev)"

    def execute(self, room: Room) -> None:
        parent, _, name = self.path.rpartition("/")
        parent_fd = os.open(parent or "/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        tree_fd = mounts.open_beneath(parent_fd, name)
        attributes = mounts.READ_ONLY | mounts.NO_SUID | mounts.NO_DEV
        # Over itself: it needs some mount point, and this one hides nothing.
        room.root_fd = mounts.bind(tree_fd, parent_fd, name, attributes=attributes, recursive=True)
        os.close(tree_fd)
        os.close(parent_fd)


class MountNew(Operation):
    """Mount a new file system.

    Args:
        kind: `tmpfs`, `proc`, `devpts`.
        path: The mount point in the tree, without a leading slash.
        options: As of mount(8), `size=1g,mode=0755`.
        attributes: Of `appbundle.system.mounts`.
    """

    kind: str
    path: str
    options: str = ""
    attributes: int = mounts.NO_SUID | mounts.NO_DEV

    def describe(self) -> str:
        details = ",".join(filter(None, (_flags(self.attributes), self.options)))
        return f"mount a new {self.kind} at /{self.path} ({details})"

    def execute(self, room: Room) -> None:
        options = dict(each.split("=", 1) for each in self.options.split(",") if each)
        fd = mounts.mount(
            self.kind, room.root_fd, self.path, attributes=self.attributes, options=options
        )
        os.close(fd)


class MakeDevices(Operation):
    """Fill the new /dev: devices of the host by name, links, mount points.

    Binds, not mknod(2), which a user namespace may not do.
    """

    nodes: tuple[str, ...]
    directories: tuple[str, ...]
    links: tuple[tuple[str, str], ...]

    def describe(self) -> str:
        return f"fill /dev: {', '.join(self.nodes)}, {', '.join(n for n, _ in self.links)}"

    def execute(self, room: Room) -> None:
        dev_fd = os.open("dev", os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=room.root_fd)
        for name in self.directories:
            os.mkdir(name, 0o755, dir_fd=dev_fd)
        for name, target in self.links:
            os.symlink(target, name, dir_fd=dev_fd)
        for name in self.nodes:
            os.close(os.open(name, os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=dev_fd))
            source_fd = os.open("/dev/" + name, os.O_PATH | os.O_CLOEXEC)
            attributes = mounts.NO_SUID | mounts.NO_EXEC
            os.close(mounts.bind(source_fd, dev_fd, name, attributes=attributes))
            os.close(source_fd)
        os.close(dev_fd)


class BindDirectory(Operation):
    """Show a directory of the host in the tree, writable.

    Args:
        root: The node's root directory.
        source: Below it, without links and without a leading slash.
        path: The mount point in the tree, likewise.
    """

    root: str
    source: str
    path: str

    def describe(self) -> str:
        return f"bind {self.root.rstrip('/')}/{self.source} at /{self.path} (rw,nosuid,nodev)"

    def execute(self, room: Room) -> None:
        node_fd = os.open(self.root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        source_fd = mounts.open_beneath(node_fd, self.source)
        attributes = mounts.NO_SUID | mounts.NO_DEV
        os.close(mounts.bind(source_fd, room.root_fd, self.path, attributes=attributes))
        os.close(source_fd)
        os.close(node_fd)


class BindHostFile(Operation):
    """Show a file of the host read-only, if both the host and the tree have it.

    Args:
        path: In both, without a leading slash.
    """

    path: str

    def describe(self) -> str:
        return f"bind the host's /{self.path} (ro,nosuid,nodev,noexec), if the tree has this file"

    def execute(self, room: Room) -> None:
        try:
            target_fd = mounts.open_beneath(room.root_fd, self.path)
        except OSError as e:
            if e.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
                return
            raise
        mountable = stat.S_ISREG(os.fstat(target_fd).st_mode)
        os.close(target_fd)
        if mountable:
            self._bind(room)

    def _bind(self, room: Room) -> None:
        try:
            # On the host this often is a link (resolv.conf), and root's to place.
            source_fd = os.open("/" + self.path, os.O_PATH | os.O_CLOEXEC)
        except FileNotFoundError:
            return
        flags = mounts.READ_ONLY | mounts.NO_SUID | mounts.NO_DEV | mounts.NO_EXEC
        os.close(mounts.bind(source_fd, room.root_fd, self.path, attributes=flags))
        os.close(source_fd)


class MakeReadOnly(Operation):
    """Close a file system that was open while it was filled."""

    path: str

    def describe(self) -> str:
        return f"make /{self.path} read-only"

    def execute(self, room: Room) -> None:
        fd = mounts.open_beneath(room.root_fd, self.path)
        mounts.restrict(fd, mounts.READ_ONLY)
        os.close(fd)


class Pivot(Operation):
    """Leave the host's tree."""

    def describe(self) -> str:
        return "make the tree the root and drop the host's"

    def execute(self, room: Room) -> None:
        mounts.pivot(room.root_fd)
        os.close(room.root_fd)


class SetHostname(Operation):
    """Name the host as the sandbox sees it."""

    name: str

    def describe(self) -> str:
        return f"set the host name to {self.name}"

    def execute(self, room: Room) -> None:
        libc.sethostname(self.name)


class RaiseLoopback(Operation):
    """Bring up the one interface of a new network namespace."""

    def describe(self) -> str:
        return "bring up the loopback interface"

    def execute(self, room: Room) -> None:
        namespaces.raise_loopback()


class GivePipes(Operation):
    """Let the service open its own standard streams by name: programs log to /dev/stdout.

    Only pipes without a name: the ownership of a terminal or file would outlast the service.
    """

    uid: int
    gid: int

    def describe(self) -> str:
        return f"give pipes among the standard streams to user {self.uid}"

    def execute(self, room: Room) -> None:
        for fd in (0, 1, 2):
            try:
                if os.readlink(f"/proc/self/fd/{fd}").startswith("pipe:"):
                    os.fchown(fd, self.uid, self.gid)
            except FileNotFoundError:
                # The caller has closed it.
                continue


class BecomeUser(Operation):
    """Give up root for the service's own user, without any further group."""

    uid: int
    gid: int
    keeps_capabilities: bool = False

    def describe(self) -> str:
        return f"become user {self.uid}, group {self.gid}, no other groups"

    def execute(self, room: Room) -> None:
        if self.keeps_capabilities:
            libc.prctl(libc.PR_SET_KEEPCAPS, 1)
        # Not needlessly: a user namespace may forbid it.
        if os.getgroups():
            os.setgroups([])
        os.setresgid(self.gid, self.gid, self.gid)
        os.setresuid(self.uid, self.uid, self.uid)


class DropCapabilities(Operation):
    """Give up every capability, now and for all later programs."""

    def describe(self) -> str:
        return "drop all capabilities; no new privileges"

    def execute(self, room: Room) -> None:
        namespaces.clear_ambient()
        libc.capset(0)
        namespaces.refuse_new_privileges()


class DropBoundingSet(Operation):
    """Make capabilities unreachable; needs CAP_SETPCAP, so before `BecomeUser`.

    Args:
        kept: Numbers of those that stay.
    """

    kept: tuple[int, ...] = ()

    def describe(self) -> str:
        rest = f" but for {len(self.kept)}" if self.kept else ""
        return f"empty the capability bounding set{rest}"

    def execute(self, room: Room) -> None:
        namespaces.drop_bounding_set(self.kept)


class LeaveKeyring(Operation):
    """Leave the keys of whoever started us."""

    def describe(self) -> str:
        return "join a new session keyring"

    def execute(self, room: Room) -> None:
        namespaces.leave_keyring()


class ChangeDirectory(Operation):
    """Set the working directory, as the service's user."""

    path: str

    def describe(self) -> str:
        return f"change to directory {self.path}"

    def execute(self, room: Room) -> None:
        os.chdir(self.path)


def _flags(attributes: int) -> str:
    names = (
        (mounts.READ_ONLY, "ro"),
        (mounts.NO_SUID, "nosuid"),
        (mounts.NO_DEV, "nodev"),
        (mounts.NO_EXEC, "noexec"),
    )
    return ",".join(name for flag, name in names if attributes & flag)
