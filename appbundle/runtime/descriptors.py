"""Listening sockets that a service is given, and how it says that it is ready.

`_socket` is the C module beneath `socket`, whose enumerations would cost 3 ms to import. Sources:
sd_listen_fds(3), sd_notify(3), unix(7).
"""

from __future__ import annotations

import errno

# Not where it is needed: by then the sandbox has no library of ours to load it from.
import fcntl
import os

from appbundle.errors import AppbError, ConflictError
from appbundle.runtime.plan import runtime_path

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket as _socket
    from collections.abc import Mapping

    from appbundle.runtime.plan import Socket, User
else:
    import _socket

FIRST = 3
"""The first descriptor that is passed, SD_LISTEN_FDS_START."""
MAX_PASSED = 64

_PASSED_ON = (
    *("READY=", "RELOADING=", "STOPPING=", "STATUS=", "ERRNO=", "BUSERROR=", "WATCHDOG="),
    *("EXTEND_TIMEOUT_USEC=", "MONOTONIC_USEC="),
)
"""What means the same outside; process numbers and descriptors do not."""
_MAX_MESSAGE = 4096
_KEPT = "nothing was started"

Listening = tuple[tuple[str, int], ...]
"""Names and descriptors, in order."""


def inherited(environment: Mapping[str, str], pid: int) -> Listening:
    """The sockets that whoever started this process has given to it.

    Args:
        environment: With LISTEN_PID, LISTEN_FDS, LISTEN_FDNAMES.
        pid: This process.
    """
    if environment.get("LISTEN_PID") != str(pid):
        return ()
    text = environment.get("LISTEN_FDS", "")
    count = int(text) if text.isdigit() and int(text) <= MAX_PASSED else 0
    names = environment.get("LISTEN_FDNAMES", "").split(":")
    named = [*names, *["unknown"] * count][:count]
    return tuple((name or "unknown", FIRST + at) for at, name in enumerate(named))


def received(path: str, key: str) -> Listening:
    """Ask a node's socket holder for the sockets of a service.

    Args:
        path: Where it listens. It is told `APP/SERVICE` on a line, and answers with one message:
            names joined by `:`, the descriptors in the same order attached.
        key: `APP/SERVICE`.

    Raises:
        AppbError: It does not answer as it should.
    """
    holder = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
    try:
        holder.connect(path)
        holder.send(f"{key}\n".encode())
        size = _socket.CMSG_SPACE(4 * MAX_PASSED)
        text, ancillary, _, _ = holder.recvmsg(_MAX_MESSAGE, size, _socket.MSG_CMSG_CLOEXEC)
    except OSError as e:
        raise AppbError(f"no sockets from {path}: {e.strerror}", kept=_KEPT) from e
    finally:
        holder.close()
    fds = []
    for level, kind, data in ancillary:
        if level == _socket.SOL_SOCKET and kind == _socket.SCM_RIGHTS:
            fds += memoryview(data[: len(data) // 4 * 4]).cast("i").tolist()
    names = text.decode(errors="replace").strip().split(":") if fds else []
    if len(names) != len(fds) or not fds:
        from appbundle.names import escape

        said = escape(text.decode(errors="replace").strip())
        raise AppbError(f"no sockets for {key} from {path}: {said or 'no answer'}", kept=_KEPT)
    return tuple(zip(names, fds, strict=True))


def opened(root: str, app: str, sockets: tuple[Socket, ...], user: User) -> Listening:
    """Open a service's sockets, as its starter.

    Args:
        root: The node's root directory; paths below /run are below its own.
        app: The service's app.
        sockets: As declared.
        user: Whose sockets with a path are, if the caller may give them away.

    Raises:
        ConflictError: One is taken, or not to be had.
    """
    found = []
    for each in sockets:
        try:
            if each.listen.startswith("/"):
                fd = _open_path(root, app, each, user)
            else:
                fd = _open_port(each)
        except OSError as e:
            hint = "another process listens there" if e.errno == errno.EADDRINUSE else ""
            raise ConflictError(
                f"cannot listen on {each.listen}: {e.strerror}", kept=_KEPT, hint=hint
            ) from e
        found.append((each.name, fd))
    return tuple(found)


def _open_port(wanted: Socket) -> int:
    host, _, port = wanted.listen.rpartition(":")
    any_host = host == "*"
    host = host.strip("[]")
    is_v6 = ":" in host or (any_host and os.path.exists("/proc/net/if_inet6"))
    family = _socket.AF_INET6 if is_v6 else _socket.AF_INET
    sock = _socket.socket(family, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
    try:
        sock.setsockopt(_socket.SOL_SOCKET, _socket.SO_REUSEADDR, 1)
        sock.setsockopt(_socket.IPPROTO_TCP, _socket.TCP_NODELAY, 1)
        if is_v6:
            sock.setsockopt(_socket.IPPROTO_IPV6, _socket.IPV6_V6ONLY, 0)
        sock.bind((("::" if is_v6 else "0.0.0.0") if any_host else host, int(port)))  # noqa: S104
        sock.listen(wanted.backlog)
    except OSError:
        sock.close()
        raise
    return sock.detach()


def _open_path(root: str, app: str, wanted: Socket, user: User) -> int:
    below = wanted.listen.removeprefix(f"/{runtime_path(app)}/")
    # The directory was made by us, and its owner is the service: it may place links, which must
    # lead nowhere. So the name is one in an open directory, not a path.
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    directory_fd = os.open(os.path.join(root, runtime_path(app)), flags)
    for part in below.split("/")[:-1]:
        parent_fd = directory_fd
        try:
            directory_fd = os.open(part, flags, dir_fd=parent_fd)
        finally:
            os.close(parent_fd)
    name = below.rpartition("/")[2]
    sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
    try:
        if name in os.listdir(directory_fd):
            os.unlink(name, dir_fd=directory_fd)
        before = os.umask(0o111)
        try:
            sock.bind(f"/proc/self/fd/{directory_fd}/{name}")
        finally:
            os.umask(before)
        if os.geteuid() == 0:
            os.chown(name, user.uid, user.gid, dir_fd=directory_fd, follow_symlinks=False)
        sock.listen(wanted.backlog)
    except OSError:
        sock.close()
        raise
    finally:
        os.close(directory_fd)
    return sock.detach()


class Readiness:
    """What comes of a service's readiness: a line for a supervisor, a message for systemd.

    Args:
        ready_fd: Gets a newline once, and is closed; -1 for none.
        address: Of the starter's own NOTIFY_SOCKET, or empty.
        notifies: Whether the service itself says it; else it is ready when its program runs.
    """

    def __init__(self, *, ready_fd: int = -1, address: str = "", notifies: bool = False) -> None:
        self._ready_fd = ready_fd
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._notifies = notifies
        self.socket: _socket.socket | None = None
        if notifies:
            kind = _socket.SOCK_DGRAM | _socket.SOCK_CLOEXEC | _socket.SOCK_NONBLOCK
            self.socket = _socket.socket(_socket.AF_UNIX, kind)

    def watch(self) -> None:
        """Have the kernel signal each message to this process, as SIGIO."""
        if self.socket is not None:
            fcntl.fcntl(self.socket.fileno(), fcntl.F_SETOWN, os.getpid())
            fcntl.fcntl(self.socket.fileno(), fcntl.F_SETFL, os.O_ASYNC | os.O_NONBLOCK)

    def started(self) -> None:
        """The program runs."""
        if not self._notifies:
            self._tell("READY=1")
        self.read()

    def read(self) -> None:
        """Pass on what the service has said since the last time."""
        while self.socket is not None:
            try:
                message = self.socket.recv(_MAX_MESSAGE)
            except BlockingIOError:
                return
            lines = message.decode(errors="replace").split("\n")
            kept = [line for line in lines if line.startswith(_PASSED_ON)]
            if kept:
                self._tell("\n".join(kept))

    def _tell(self, text: str) -> None:
        if self._ready_fd >= 0 and "READY=1" in text.split("\n"):
            self._write_line()
        if self._address:
            self._send(text)

    def _write_line(self) -> None:
        try:
            os.write(self._ready_fd, b"\n")
        except BrokenPipeError:
            # Whoever wanted to know has gone.
            return
        finally:
            os.close(self._ready_fd)
            self._ready_fd = -1

    def _send(self, text: str) -> None:
        sender = _socket.socket(_socket.AF_UNIX, _socket.SOCK_DGRAM | _socket.SOCK_CLOEXEC)
        try:
            sender.sendto(text.encode(), self._address)
        except OSError:
            # A manager that is being restarted; it asks for what it has missed.
            return
        finally:
            sender.close()


def place(listening: Listening) -> dict[str, str]:
    """Put sockets where a program expects them, in the process that will execute it.

    Returns:
        The variables that say so.
    """
    if not listening:
        return {}
    # Two steps, for a socket may lie where another one belongs.
    beyond = FIRST + len(listening)
    moved = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, beyond) for _, fd in listening]
    for at, fd in enumerate(moved):
        os.dup2(fd, FIRST + at, inheritable=True)
    return {
        "LISTEN_PID": str(os.getpid()),
        "LISTEN_FDS": str(len(listening)),
        "LISTEN_FDNAMES": ":".join(name for name, _ in listening),
    }


def out_of_the_way(fd: int, listening: Listening) -> int:
    """Move a descriptor of our own to where no socket will be placed."""
    if fd >= FIRST + len(listening):
        return fd
    moved = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, FIRST + len(listening))
    os.close(fd)
    return moved
