"""Steps that show a service what is not in its tree: directories, devices, configuration, users."""

from __future__ import annotations

import errno
import os
import stat

from appbundle.runtime.operations import Operation, Room
from appbundle.system import mounts, users

_READ_ONLY = mounts.READ_ONLY | mounts.NO_SUID | mounts.NO_DEV
_NO_PROGRAMS = mounts.NO_SUID | mounts.NO_DEV | mounts.NO_EXEC
_TUNABLES = ("sys", "sysrq-trigger", "irq", "bus", "fs", "acpi", "scsi")


class MountProcesses(Operation):
    """Mount a /proc in which a service sees only what is its own.

    Args:
        figures: Also what is not about processes.
    """

    figures: bool

    def describe(self) -> str:
        kinds = "" if self.figures else ",subset=pid"
        return f"mount a new proc at /proc (nosuid,nodev,noexec,hidepid=invisible{kinds})"

    def execute(self, room: Room) -> None:
        subset = {} if self.figures else {"subset": "pid"}
        try:
            self._mount(room, {"hidepid": "invisible", **subset})
        except OSError as e:
            if e.errno != errno.EINVAL:
                raise
            # Linux before 5.8 knows neither word.
            self._mount(room, {"hidepid": "2"})

    def _mount(self, room: Room, options: dict[str, str]) -> None:
        fd = mounts.mount("proc", room.root_fd, "proc", attributes=_NO_PROGRAMS, options=options)
        os.close(fd)


class ProtectTunables(Operation):
    """Let nobody change the kernel through /proc, whatever capability he has."""

    def describe(self) -> str:
        return f"make read-only of /proc: {', '.join(_TUNABLES)}"

    def execute(self, room: Room) -> None:
        for name in _TUNABLES:
            try:
                fd = mounts.open_beneath(room.root_fd, f"proc/{name}")
            except FileNotFoundError:
                continue
            attributes = _READ_ONLY | mounts.NO_EXEC
            os.close(mounts.bind(fd, room.root_fd, f"proc/{name}", attributes=attributes))
            os.close(fd)


class MakeDirectories(Operation):
    """Make mount points in a file system that is still open."""

    paths: tuple[str, ...]

    def describe(self) -> str:
        return f"make the directories {', '.join('/' + path for path in self.paths)}"

    def execute(self, room: Room) -> None:
        for path in self.paths:
            _make_parents(room.root_fd, path + "/")


class BindHostPath(Operation):
    """Show a file, directory or device of the host at the same path in the tree.

    Args:
        path: In both, without a leading slash.
        kind: `read`, `write` or `device`.
        fresh: It is below a new file system, so that its mount point can be made.
    """

    path: str
    kind: str
    fresh: bool

    def describe(self) -> str:
        flags = {
            "read": "ro,nosuid,nodev",
            "write": "rw,nosuid,nodev",
            "device": "rw,nosuid,noexec",
        }
        return f"bind the host's /{self.path} ({flags[self.kind]})"

    def execute(self, room: Room) -> None:
        # On the host links are root's to place.
        source_fd = os.open("/" + self.path, os.O_PATH | os.O_CLOEXEC)
        if self.fresh:
            is_directory = stat.S_ISDIR(os.fstat(source_fd).st_mode)
            _make_mount_point(room.root_fd, self.path, is_directory=is_directory)
        attributes = {
            "read": _READ_ONLY,
            "write": mounts.NO_SUID | mounts.NO_DEV,
            "device": mounts.NO_SUID | mounts.NO_EXEC,
        }
        fd = mounts.bind(
            source_fd,
            room.root_fd,
            self.path,
            attributes=attributes[self.kind],
            recursive=self.kind == "read",
        )
        os.close(fd)
        os.close(source_fd)


class BindOverlay(Operation):
    """Show a rendered file in place of one of the tree.

    Args:
        root: The node's root directory.
        source: The file below it, without links.
        path: The file in the tree.
    """

    root: str
    source: str
    path: str

    def describe(self) -> str:
        return f"bind {self.root.rstrip('/')}/{self.source} at /{self.path} (ro,nosuid,nodev)"

    def execute(self, room: Room) -> None:
        node_fd = os.open(self.root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        source_fd = mounts.open_beneath(node_fd, self.source)
        os.close(mounts.bind(source_fd, room.root_fd, self.path, attributes=_READ_ONLY))
        os.close(source_fd)
        os.close(node_fd)


class ShowSecrets(Operation):
    """Copy an app's secrets into the new /run, for the service's user alone.

    Args:
        root: The node's root directory.
        source: The directory below it, without links; only root reads it.
        path: The directory in the tree, below `run`.
        uid: Whose they are there.
        gid: Likewise.
    """

    root: str
    source: str
    path: str
    uid: int
    gid: int

    def describe(self) -> str:
        return f"show the app's secrets at /{self.path} to user {self.uid}"

    def execute(self, room: Room) -> None:
        node_fd = os.open(self.root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        source_fd = mounts.open_beneath(node_fd, self.source)
        os.mkdir(self.path, 0o700, dir_fd=room.root_fd)
        target_fd = mounts.open_beneath(room.root_fd, self.path)
        for name in os.listdir(f"/proc/self/fd/{source_fd}"):
            self._copy(source_fd, target_fd, name)
        os.chown(self.path, self.uid, self.gid, dir_fd=room.root_fd, follow_symlinks=False)
        os.chmod(self.path, 0o500, dir_fd=room.root_fd)
        for fd in (target_fd, source_fd, node_fd):
            os.close(fd)

    def _copy(self, source_fd: int, target_fd: int, name: str) -> None:
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
        with open(os.open(name, flags, dir_fd=source_fd), "rb") as file:
            content = file.read()
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        fd = os.open(name, flags, 0o400, dir_fd=target_fd)
        os.write(fd, content)
        os.fchown(fd, self.uid, self.gid)
        os.close(fd)


class NameUser(Operation):
    """Put a passwd and a group file with the service's user over the tree's, where it has them."""

    name: str
    uid: int
    gid: int
    home: str

    def describe(self) -> str:
        return "show an /etc/passwd and /etc/group with root, nobody and the service's user"

    def execute(self, room: Room) -> None:
        run_fd = mounts.open_beneath(room.root_fd, "run")
        texts = {
            "etc/passwd": users.passwd(self.name, uid=self.uid, gid=self.gid, home=self.home),
            "etc/group": users.group(self.name, gid=self.gid),
        }
        for path, text in texts.items():
            if mounts.is_file_beneath(room.root_fd, path):
                self._show(room, run_fd, path, text)
        os.close(run_fd)

    def _show(self, room: Room, run_fd: int, path: str, text: str) -> None:
        name = path.replace("/", "-")
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        fd = os.open(name, flags, 0o644, dir_fd=run_fd)
        os.write(fd, text.encode())
        os.close(fd)
        source_fd = os.open(name, os.O_PATH | os.O_CLOEXEC, dir_fd=run_fd)
        attributes = _READ_ONLY | mounts.NO_EXEC
        os.close(mounts.bind(source_fd, room.root_fd, path, attributes=attributes))
        os.close(source_fd)
        # The mount keeps it; in /run it is nothing that a service needs to see.
        os.unlink(name, dir_fd=run_fd)


class PlaceNotifySocket(Operation):
    """Bind the socket on which a service says that it is ready."""

    path: str

    def describe(self) -> str:
        return f"listen for the service's messages at /{self.path}"

    def execute(self, room: Room) -> None:
        assert room.notify is not None
        parent, _, name = self.path.rpartition("/")
        fd = mounts.open_beneath(room.root_fd, parent)
        room.notify.bind(f"/proc/self/fd/{fd}/{name}")
        os.close(fd)


def _make_mount_point(root_fd: int, path: str, *, is_directory: bool) -> None:
    parent_fd, name = _make_parents(root_fd, path), path.rpartition("/")[2]
    try:
        if is_directory:
            os.mkdir(name, 0o755, dir_fd=parent_fd)
        else:
            flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC
            os.close(os.open(name, flags, 0o644, dir_fd=parent_fd))
    except FileExistsError:
        # One of the usual devices, or a directory that holds another mount.
        return
    finally:
        os.close(parent_fd)


def _make_parents(root_fd: int, path: str) -> int:
    """Make every directory before the last slash; gives a descriptor of the last of them."""
    fd = os.dup(root_fd)
    for part in path.split("/")[:-1]:
        parent_fd = fd
        try:
            os.mkdir(part, 0o755, dir_fd=parent_fd)
        except OSError as e:
            # In the read-only tree it must be there already.
            if e.errno not in (errno.EEXIST, errno.EROFS):
                raise
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open(part, flags, dir_fd=parent_fd)
        os.close(parent_fd)
    return fd
