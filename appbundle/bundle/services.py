"""Services: what a bundle declares that a node keeps running. docs/services.md.

Everything here is part of the signed manifest. Texts marked (T) may name settings, as in
`"127.0.0.1:{{ port }}"`; they are filled in when a generation is made.
"""

from typing import Literal

import msgspec


class Socket(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True
):
    """A listening socket that the service manager holds and passes on, so that a switch drops none.

    Args:
        name: What the program knows it by (LISTEN_FDNAMES).
        listen: (T) `ADDRESS:PORT`, `[ADDRESS]:PORT`, or an absolute path below `/run/APP`.
        backlog: Connections that may wait.
    """

    name: str
    listen: str
    backlog: int = 511


class Health(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True
):
    """How to see that a service does its work; exactly one of http, tcp and command.

    Args:
        http: (T) A URL that answers 2xx or 3xx.
        tcp: (T) `ADDRESS:PORT` that accepts a connection.
        command: A program inside the bundle that exits with 0, and its arguments.
        grace_s: Failures in the first so many seconds do not count.
        attempts: So many failures in a row are one too many.
        interval_s: Between two attempts.
        timeout_s: Of one attempt.
    """

    http: str = ""
    tcp: str = ""
    command: tuple[str, ...] = ()
    grace_s: int = 30
    attempts: int = 3
    interval_s: int = 1
    timeout_s: int = 5


class Stop(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True
):
    """How a service is ended.

    Args:
        signal: Sent to the main process; name without SIG.
        timeout_s: After so many seconds all its processes are killed.
    """

    signal: str = "TERM"
    timeout_s: int = 30


class Limits(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True
):
    """What a service may use at most.

    Args:
        memory_bytes: Of all its processes together.
        tasks: Processes and threads.
        cpu_percent: Of one processor; 0 for no limit.
        open_files: Descriptors a process.
    """

    memory_bytes: int = 2 << 30
    tasks: int = 512
    cpu_percent: int = 0
    open_files: int = 65_536


class Service(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True
):
    """One thing that a node keeps running, or runs at times.

    Args:
        name: Unique in the app; the one that is named as the app is its main service.
        argv: (T) The program (absolute, inside the bundle) and its arguments.
        kind: `long` runs until it is stopped; `once` runs to its end at each start.
        every: For `once`: when it is started, as of systemd.time(7), CALENDAR EVENTS.
        environment: (T) All that it gets beside PATH, HOME, USER, LANG, TMPDIR.
        directory: Working directory.
        sockets: Held for it, in this order from descriptor 3 on.
        ready: When it counts as started: `exec` once its program runs, `notify` when it says so
            (sd_notify(3)), `socket` when `health` succeeds for the first time.
        ready_timeout_s: Longer means that it failed.
        health: Asked after each start; a switch waits for it.
        stop: How it is ended.
        reload: Signal that makes it read its configuration again, or empty.
        after: `APP` or `APP/SERVICE` that must have started before, if this node runs it.
        change: What a new version or configuration needs: `restart`; `overlap` (the new one starts
            beside the old one on the same sockets); `reload` (a configuration needs no more than
            the signal; a version restarts); `keep` (it runs on until somebody restarts it).
        limits: What it may use.
        entitlements: What opens its confinement; see `appbundle.bundle.confinement`.
    """

    name: str
    argv: tuple[str, ...]
    kind: Literal["long", "once"] = "long"
    every: str = ""
    environment: dict[str, str] = {}
    directory: str = "/"
    sockets: tuple[Socket, ...] = ()
    ready: Literal["exec", "notify", "socket"] = "exec"
    ready_timeout_s: int = 60
    health: Health | None = None
    stop: Stop = Stop()
    reload: str = ""
    after: tuple[str, ...] = ()
    change: Literal["restart", "overlap", "reload", "keep"] = "restart"
    limits: Limits = Limits()
    entitlements: tuple[str, ...] = ()
