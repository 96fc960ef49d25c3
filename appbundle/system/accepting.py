"""Which process answers at a shared listening socket: by who holds the accepted connection.

Two instances of a service listen on one socket, and only the kernel decides whom it wakes. So this
connects, and looks whose descriptor the other end is. sock_diag(7), proc_pid_fd(5).
"""

import os
import socket
import struct
import time
from collections.abc import Collection

_LOOK_S = 0.002
_KERNEL_S = 5.0

# struct nlmsghdr, then struct inet_diag_req_v2; in the answer struct inet_diag_msg comes second.
_QUESTION = struct.Struct("=IHHII" + "BBBBI" + "2s2s16s16sIQ")
_DIAG = 4
_BY_FAMILY = 20
_REQUEST = 1
_ALL_STATES = 0xFFFFFFFF
_ANY_COOKIE = 0xFFFFFFFFFFFFFFFF
_STATE_AT = 16 + 1
_INODE_AT = 16 + 68
_NOT_CONNECTED = frozenset({6, 10, 12})
"""TIME_WAIT, LISTEN and NEW_SYN_RECV: the connection is over, or not made."""


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
        while time.monotonic() < deadline:
            # Until it is accepted the other end has no inode, so nobody holds it.
            inode = _inode(connection)
            if inode:
                return any(_holds(pid, inode) for pid in pids)
            time.sleep(_LOOK_S)
    return False


def _inode(connection: socket.socket) -> int:
    """The inode of the other end of a connection on this host; 0 if nobody has accepted it yet.

    One question to the kernel for one connection: /proc/net/tcp lists all, and after a busy minute
    tens of thousands of those are closed ones that wait.
    """
    host, port = connection.getpeername()[:2]
    own_host, own_port = connection.getsockname()[:2]
    source, target = (
        socket.inet_pton(connection.family, each).ljust(16, b"\0") for each in (host, own_host)
    )
    question = _QUESTION.pack(
        *(_QUESTION.size, _BY_FAMILY, _REQUEST, 0, 0),
        *(connection.family, socket.IPPROTO_TCP, 0, 0, _ALL_STATES),
        *(port.to_bytes(2, "big"), own_port.to_bytes(2, "big"), source, target, 0, _ANY_COOKIE),
    )
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _DIAG) as kernel:
        kernel.settimeout(_KERNEL_S)
        kernel.send(question)
        answer = kernel.recv(4096)
    _, kind = struct.unpack_from("=IH", answer)
    if kind != _BY_FAMILY or answer[_STATE_AT] in _NOT_CONNECTED:
        return 0
    return int(struct.unpack_from("=I", answer, _INODE_AT)[0])


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
