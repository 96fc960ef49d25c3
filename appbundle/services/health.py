"""Health: does a service do its work? Asked over HTTP, TCP or by a command of its bundle."""

from __future__ import annotations

import http.client
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

from appbundle.bundle.services import Health

Ask = Callable[[tuple[str, ...], float], str]
"""Runs a command inside a service; gives why it failed, or nothing."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """How a question about health ended.

    Args:
        healthy: Whether it was answered well.
        why: What was wrong with the last answer.
    """

    healthy: bool
    why: str = ""


def probe(health: Health, *, ask: Ask) -> Verdict:
    """Ask once."""
    if health.http:
        why = _probe_http(health.http, health.timeout_s)
    elif health.tcp:
        why = _probe_tcp(health.tcp, health.timeout_s)
    else:
        why = ask(health.command, health.timeout_s)
    return Verdict(not why, why)


def wait_healthy(
    health: Health,
    *,
    ask: Ask,
    alive: Callable[[], str],
    now: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Verdict:
    """Ask until the service is healthy, or has failed too often.

    Args:
        ask: For `command`.
        alive: Gives why the service is not running any more, or nothing; then waiting is in vain.
        now: A clock that never goes back.

    Returns:
        The verdict; failures within the grace period do not count, one success is enough.
    """
    began, failures = now(), 0
    while True:
        verdict = probe(health, ask=ask)
        if verdict.healthy:
            return verdict
        if now() - began >= health.grace_s:
            failures += 1
        if failures >= health.attempts:
            return verdict
        if why := alive():
            return Verdict(False, why)
        sleep(health.interval_s)


def _probe_http(url: str, timeout_s: float) -> str:
    parts = urlsplit(url)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = kind(parts.hostname or "", parts.port, timeout=timeout_s)
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    deadline = time.monotonic() + timeout_s
    try:
        connection.request("GET", path, headers={"User-Agent": "appb", "Connection": "close"})
        answer = connection.getresponse()
        # A body that trickles keeps each read short of the time limit, so the sum has one too.
        while answer.read1(65536) and time.monotonic() < deadline:
            continue
    except (OSError, http.client.HTTPException) as error:
        return f"{url}: {error or type(error).__name__}"
    finally:
        connection.close()
    if not 200 <= answer.status < 400:
        return f"{url} answers {answer.status} {answer.reason}"
    return "" if time.monotonic() < deadline else f"{url} takes longer than {timeout_s:g} s"


def _probe_tcp(address: str, timeout_s: float) -> str:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=timeout_s).close()
    except (OSError, ValueError) as error:
        return f"{address}: {error}"
    return ""
