"""Networks of their own, with nothing but a loopback interface."""

import contextlib
import os
import subprocess
from collections.abc import Iterator

from measure import ChildFailed


@contextlib.contextmanager
def own_network() -> Iterator[list[str]]:
    """Make a network where all ports are free: gives what a command in it begins with."""
    name = f"appb-bench-{os.getpid()}"
    _quiet("ip", "netns", "add", name)
    try:
        # `ip netns exec` would also show it another /sys, without control groups.
        inside = ["nsenter", f"--net=/run/netns/{name}", "--"]
        _quiet(*inside, "ip", "link", "set", "lo", "up", "mtu", "1500")
        yield inside
    finally:
        _quiet("ip", "netns", "delete", name)


@contextlib.contextmanager
def slow_loopback(rate: str) -> Iterator[list[str]]:
    """Make a network of its own whose loopback lets so much through: gives what to begin with.

    Args:
        rate: As tc(8) has it: `20mbit`.
    """
    with own_network() as inside:
        # A token bucket and not netem, which not every kernel has; latency bounds its queue.
        shape = ("root", "tbf", "rate", rate, "burst", "32kbit", "latency", "50ms")
        _quiet(*inside, "tc", "qdisc", "add", "dev", "lo", *shape)
        yield inside


def _quiet(*words: str) -> None:
    try:
        subprocess.run(words, check=True, capture_output=True, timeout=30)
    except (OSError, subprocess.SubprocessError) as error:
        raise ChildFailed(f"{' '.join(words)}: {error}") from error
