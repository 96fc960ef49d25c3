"""Holds the sockets of services, so that a restart or a second instance drops no connection.

A process of its own, the first that the embedded supervisor starts. It listens on two sockets in
/run/appb, of mode 0600, and answers nobody but root and the user that it runs as:

    sockets        for lasting instances, and second ones that share theirs
    sockets.next   for second instances on trial, on sockets of their own

One line a connection, and one message in answer:

    APP/SERVICE    the names of its sockets joined by ":", with the descriptors (SCM_RIGHTS)
    open …         "ok"; they are open, and connections wait
    close …        "ok"; nobody holds them but who has them already
    reload         "ok"; the declarations are read again
    anything       "error: …" if that is not to be had

Sockets that nobody declares any more are closed at once; one that is declared with another address
when its service asks again: until then the way back is open. It also starts what is due
(`every`), since it is always there. unix(7), systemd.socket(5).
"""

from __future__ import annotations

import contextlib
import errno
import os
import selectors
import socket
import stat
import struct
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from appbundle.bundle.services import Socket
from appbundle.errors import AppbError, UnsupportedError
from appbundle.layout import Layout
from appbundle.names import AppName
from appbundle.system import daemons

if TYPE_CHECKING:
    from appbundle.services.embedded.definitions import Definitions

_MODE = 0o600
_LINE = 4096
_MAX_SOCKETS = 16
_PATIENCE_S = 5.0
_CREDENTIALS = struct.Struct("3i")
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_BACKLOG = 128
_IP_FREEBIND = 15
"""Of <linux/in.h>, and of IPv6 sockets too; Python has no name for it."""

Held = dict[str, tuple[str, socket.socket]]
"""A service's sockets by name, with the address that each listens at."""


class HolderError(AppbError):
    """The holder does not have what was asked for, or is not there."""

    kind = "sockets"


def ask(path: Path, line: str, *, timeout_s: float = 15.0) -> str:
    """Ask the holder one thing; gives its answer.

    Raises:
        HolderError: It says no, or does not answer.
    """
    answer, descriptors = fetch(path, line, timeout_s=timeout_s)
    for fd in descriptors:
        os.close(fd)
    return answer


def fetch(path: Path, line: str, *, timeout_s: float = 15.0) -> tuple[str, list[int]]:
    """Ask the holder one thing; gives its answer and the descriptors with it.

    Raises:
        HolderError: It says no, or does not answer.
    """
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(timeout_s)
            with _Parent(path) as place:
                connection.connect(place)
            connection.sendall(f"{line}\n".encode())
            raw, descriptors, _, _ = socket.recv_fds(connection, _LINE, _MAX_SOCKETS)
    except OSError as error:
        raise HolderError(
            f"the holder of sockets does not answer at {path}: {error.strerror or error}",
            hint="appb supervise starts it",
        ) from error
    answer = raw.decode("utf-8", "replace").strip()
    if answer.startswith("error: "):
        raise HolderError(answer.removeprefix("error: "))
    return answer, descriptors


class _Parent:
    """Gives a path that is short enough for an address, however deep the directory is."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd = -1

    def __enter__(self) -> str:
        self._fd = os.open(self._path.parent, _DIRECTORY)
        return f"/proc/self/fd/{self._fd}/{self._path.name}"

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)


def open_socket(layout: Layout, app: str, declared: Socket) -> socket.socket:
    """Listen as a socket is declared.

    Raises:
        OSError: The address is taken, or not this machine's.
    """
    if declared.listen.startswith("/"):
        return _open_path(layout, app, declared)
    host, _, port = declared.listen.rpartition(":")
    host = host.strip("[]")
    if host == "*":
        host = "::" if socket.has_dualstack_ipv6() else "0.0.0.0"  # noqa: S104 (as declared)
    found = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    try:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if declared.listen.startswith("*") and ":" in host:
            found.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        # At boot the address may not be there yet.
        found.setsockopt(socket.IPPROTO_IP, _IP_FREEBIND, 1)
        found.bind((host, int(port)))
        found.listen(declared.backlog)
    except BaseException:
        found.close()
        raise
    return found


def _open_path(layout: Layout, app: str, declared: Socket) -> socket.socket:
    # Not at the top: whoever only asks the holder something does not need it.
    from appbundle.services import users

    *parents, name = declared.listen.strip("/").split("/")
    owner = users.identity(layout, AppName(app)) if os.geteuid() == 0 else None
    directory = _open_parents(layout, parents, owner)
    found = socket.socket(socket.AF_UNIX)
    before = os.umask(0o111)
    try:
        try:
            if stat.S_ISSOCK(os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode):
                os.unlink(name, dir_fd=directory)
        except FileNotFoundError:
            pass
        found.bind(f"/proc/self/fd/{directory}/{name}")
        if owner is not None:
            os.chown(name, *owner, dir_fd=directory, follow_symlinks=False)
        found.listen(declared.backlog)
    except BaseException:
        found.close()
        raise
    finally:
        os.umask(before)
        os.close(directory)
    return found


def _open_parents(layout: Layout, parents: list[str], owner: tuple[int, int] | None) -> int:
    """Open the directory of a socket; what is missing below `/run` is made, the service's own."""
    # The service may write there: no link of its making is followed, nothing is named twice.
    directory = os.open(layout.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    for depth, part in enumerate(parents):
        above, is_made = directory, False
        try:
            with contextlib.suppress(FileExistsError):
                os.mkdir(part, 0o700 if depth else 0o755, dir_fd=above)
                is_made = True
            directory = os.open(part, _DIRECTORY, dir_fd=above)
        finally:
            os.close(above)
        if is_made and depth and owner is not None:
            os.fchown(directory, *owner)
    return directory


class Holder:
    """The process's whole state.

    Args:
        layout: The node.
    """

    def __init__(self, layout: Layout) -> None:
        # Not at the top: whoever only asks the holder something needs neither.
        from appbundle.services.embedded import definitions
        from appbundle.services.embedded.places import Places
        from appbundle.services.embedded.timers import Timers

        self._layout = layout
        self._places = Places(layout)
        self._read: Callable[[], Definitions] = lambda: definitions.read(self._places)
        self._timers = Timers(self._places)
        self._held: dict[tuple[str, bool], Held] = {}
        self._declared: Mapping[tuple[str, bool], tuple[Socket, ...]] = {}
        self._reload()

    def serve(self) -> None:
        """Answer, and start what is due, until a signal ends the process."""
        with selectors.DefaultSelector() as ready:
            for path, is_trial in (
                (self._places.sockets, False),
                (self._places.trial_sockets, True),
            ):
                ready.register(_listen_at(path), selectors.EVENT_READ, is_trial)
            while True:
                for key, _ in ready.select(self._timers.wait_s(time.time())):
                    assert isinstance(key.fileobj, socket.socket)
                    self._take(key.fileobj, is_trial=key.data)
                self._timers.start_due(time.time())
                daemons.reap()

    def _take(self, listener: socket.socket, *, is_trial: bool) -> None:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        with connection:
            connection.settimeout(_PATIENCE_S)
            try:
                if not _is_allowed(connection):
                    return
                line = _line(connection)
                answer, sockets = self._answer(line, is_trial=is_trial)
                socket.send_fds(connection, [answer], [each.fileno() for each in sockets])
            except OSError as error:
                print(f"a client was lost: {error}", file=sys.stderr, flush=True)

    def _answer(self, line: str, *, is_trial: bool) -> tuple[bytes, list[socket.socket]]:
        verb, _, rest = line.partition(" ")
        try:
            if line == "reload":
                self._reload()
                return b"ok\n", []
            name = _full(rest if verb in ("open", "close") else line)
            if verb == "close":
                self._close((name, is_trial))
                return b"ok\n", []
            held = self._open((name, is_trial))
        except AppbError as error:
            return f"error: {error.what}\n".encode(), []
        except OSError as error:
            return f"error: {error.strerror or error}\n".encode(), []
        if verb == "open":
            return b"ok\n", []
        names = [each.name for each in self._declared[(name, is_trial)]]
        return ":".join(names).encode(), [held[each][1] for each in names]

    def _reload(self) -> None:
        self._declared = {
            (f"{each.app}/{each.service.name}", instance.is_next): each.service.sockets
            for instance, each in self._read().items()
            if not each.shared
        }
        for name in self._held.keys() - self._declared.keys():
            self._close(name)
        self._timers.reload(time.time())

    def _open(self, name: tuple[str, bool]) -> Held:
        """Have all sockets of a service as it is declared now; all or none are new."""
        declared = self._declared.get(name)
        if declared is None:
            raise UnsupportedError(f"there is no service {name[0]}")
        before = self._held.get(name, {})
        now: Held = {}
        try:
            for each in declared:
                address, found = before.get(each.name, ("", None))
                if found is None or address != each.listen:
                    found = self._open_one(name[0], each)
                now[each.name] = (each.listen, found)
        except BaseException:
            _close_all(now, keep=before)
            raise
        _close_all(before, keep=now)
        self._held[name] = now
        return now

    def _open_one(self, name: str, declared: Socket) -> socket.socket:
        try:
            return open_socket(self._layout, name.partition("/")[0], declared)
        except OSError as error:
            raise HolderError(
                f"cannot listen at {declared.listen}: {error.strerror or error}"
            ) from error

    def _close(self, name: tuple[str, bool]) -> None:
        _close_all(self._held.pop(name, {}), keep={})


def _close_all(held: Held, *, keep: Held) -> None:
    kept = {id(found) for _, found in keep.values()}
    for _, found in held.values():
        if id(found) not in kept:
            found.close()


def _full(name: str) -> str:
    app, slash, service = name.partition("/")
    return f"{AppName(app)}/{service if slash else app}"


def _listen_at(path: Path) -> socket.socket:
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX)
    before = os.umask(0o777 & ~_MODE)
    try:
        with _Parent(path) as place:
            listener.bind(place)
    finally:
        os.umask(before)
    listener.listen(_BACKLOG)
    # The one who was ready may have gone again: waiting for the next would be waiting for ever.
    listener.setblocking(False)
    return listener


def _is_allowed(connection: socket.socket) -> bool:
    size = _CREDENTIALS.size
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
    _, uid, _ = _CREDENTIALS.unpack(raw)
    return uid in (0, os.geteuid())


def _line(connection: socket.socket) -> str:
    raw = b""
    while b"\n" not in raw:
        piece = connection.recv(_LINE)
        raw += piece
        if not piece or len(raw) > _LINE:
            raise OSError(errno.EPROTO, "no line was sent")
    return raw.split(b"\n")[0].decode("utf-8", "replace")


def main(argv: list[str]) -> None:
    """Hold the sockets of the node below a root directory."""
    Holder(Layout(Path(argv[1]))).serve()


if __name__ == "__main__":
    main(sys.argv)
