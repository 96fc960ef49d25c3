"""Who answers at a shared listening socket is told by who holds the accepted connection."""

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from appbundle.system import accepting


@contextmanager
def server(host: str, *, accepts: bool) -> Iterator[tuple[str, int]]:
    """A socket of this process that takes one connection, or leaves it in the queue."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    dualstack = host == "::"
    with socket.create_server((host, 0), family=family, dualstack_ipv6=dualstack) as listener:
        taken: list[socket.socket] = []
        thread = threading.Thread(target=lambda: taken.append(listener.accept()[0]))
        if accepts:
            thread.start()
        try:
            yield ("127.0.0.1" if dualstack else host), listener.getsockname()[1]
        finally:
            if accepts:
                thread.join()
            for each in taken:
                each.close()


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "::"])
def test_holder_of_the_connection_accepts(host: str) -> None:
    """The process that has taken the connection is the one, whatever the family of addresses."""
    with server(host, accepts=True) as address:
        assert accepting.accepts(address, {os.getpid()}, timeout_s=5)


def test_another_process_does_not() -> None:
    """A process that has not taken it does not accept, even on the same socket."""
    with server("127.0.0.1", accepts=True) as address:
        assert not accepting.accepts(address, {1}, timeout_s=5)


def test_queue_is_nobody() -> None:
    """A connection that waits in the queue was taken by nobody, its listener's owner neither."""
    with server("127.0.0.1", accepts=False) as address:
        assert not accepting.accepts(address, {os.getpid()}, timeout_s=0.1)
