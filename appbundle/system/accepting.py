"""Which process answers at a shared listening socket: by who holds the accepted connection.

Two instances of a service listen on one socket, and only the kernel decides whom it wakes. So this
connects, and looks whose descriptor the other end is. proc_pid_net(5), proc_pid_fd(5).
"""

import os
import socket
import time
from collections.abc import Collection

_LOOK_S = 0.002


def accepts(address: tuple[str, int], pids: Collection[int], *, timeout_s: float) -> bool:
    """Connect once, and see whether one of these processes takes the connection.

    Args:
        address: Host and port of the socket.
        pids: Processes of one instance.
        timeout_s: How long to wait for anybody to take it.
    """
    try:
        connection = socket.create_connection(address, timeout=timeout_s)
    except OSError:
        return False
    deadline = time.monotonic() + timeout_s
    with connection:
        wanted = (connection.getpeername()[1], connection.getsockname()[1])
        while time.monotonic() < deadline:
            # Until it is accepted the other end has no inode, so nobody holds it.
            inode = _inode(connection.family, *wanted)
            if inode:
                return any(_holds(pid, inode) for pid in pids)
            time.sleep(_LOOK_S)
    return False


def _inode(family: int, local_port: int, remote_port: int) -> int:
    """The inode of the connected socket with these ports on this host; 0 if it has none yet."""
    table = "/proc/net/tcp6" if family == socket.AF_INET6 else "/proc/net/tcp"
    for name in (table, "/proc/net/tcp6"):
        try:
            with open(name, encoding="ascii") as file:
                lines = file.readlines()[1:]
        except OSError:
            continue
        for line in lines:
            fields = line.split()
            ports = (int(fields[1].rpartition(":")[2], 16), int(fields[2].rpartition(":")[2], 16))
            if ports == (local_port, remote_port):
                return int(fields[9])
    return 0


def _holds(pid: int, inode: int) -> bool:
    wanted = f"socket:[{inode}]"
    try:
        names = os.listdir(f"/proc/{pid}/fd")
    except OSError:
        return False
    for name in names:
        try:
            if os.readlink(f"/proc/{pid}/fd/{name}") == wanted:
                return True
        except OSError:
            continue
    return False


def family_of(pid: int) -> set[int]:
    """A process with all its descendants, as of now."""
    found, todo = {pid}, [pid]
    while todo:
        here = todo.pop()
        try:
            for task in os.listdir(f"/proc/{here}/task"):
                with open(f"/proc/{here}/task/{task}/children", encoding="ascii") as file:
                    children = {int(word) for word in file.read().split()}
                todo += children - found
                found |= children
        except OSError:
            continue
    return found
