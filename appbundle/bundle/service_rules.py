"""What a manifest may say of services; each refusal names rule and service. docs/services.md."""

import re
from collections.abc import Iterable, Iterator

from appbundle.bundle import confinement
from appbundle.bundle.services import Health, Limits, Service, Socket
from appbundle.bundle.text import is_harmless
from appbundle.errors import ManifestError, UsageError
from appbundle.names import escape, parse_app_name

MAX_SERVICES = 64
MAX_TEXT = 32_768
RESERVED = frozenset({"next"})
"""Names that units of appb's own have."""
TASK = "task-"
"""What the names of the units of tasks begin with; no service's does."""
SIGNALS = frozenset({"TERM", "INT", "QUIT", "HUP", "USR1", "USR2", "WINCH", "KILL"})

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}", re.ASCII)
_REFUSED_VARIABLES = re.compile(r"LD_.*|GCONV_PATH|LISTEN_.*|NOTIFY_SOCKET", re.ASCII)
_CALENDAR = re.compile(r"[A-Za-z0-9*:,./~ -]{1,100}", re.ASCII)
_LISTEN = re.compile(r"(?:\[[0-9A-Fa-f:.]+\]|[0-9.]+|\*):[0-9]{1,5}|/run/[A-Za-z0-9._/-]{1,90}")
_HOST = re.compile(r"(?:\[[0-9A-Fa-f:.]+\]|[0-9A-Za-z._-]+):[0-9]{1,5}", re.ASCII)
_FILLED = re.compile(r"\{\{.*?\}\}")
"""What a setting takes the place of: nothing is known of its form before it is filled in."""


def check_services(app: str, services: tuple[Service, ...], *, filled: bool = False) -> None:
    """Check every rule of an app's services.

    Args:
        filled: Settings are filled in, so braces are no place for them.

    Raises:
        ManifestError: The first rule that is broken, and by which service.
    """
    if len(services) > MAX_SERVICES:
        raise ManifestError(f"more than {MAX_SERVICES} services")
    if len({service.name for service in services}) != len(services):
        raise ManifestError("two services have the same name")
    for name in _shared_units(app, services):
        raise ManifestError(f"service {app}: its socket {name} is also that of service {name}")
    for service in services:
        for problem in _problems(app, service, filled=filled):
            raise ManifestError(f"service {escape(service.name)}: {problem}")


def _problems(app: str, service: Service, *, filled: bool) -> Iterator[str]:
    if not _is_name(service.name) or (_is_reserved(service.name) and service.name != app):
        yield "the name is not one that a service can have"
    yield from command_problems(service.argv)
    yield from environment_problems(service.environment)
    if not service.directory.startswith("/") or not is_harmless(service.directory):
        yield "the working directory is not an absolute path"
    yield from _socket_problems(app, service.sockets, filled=filled)
    if service.health is not None:
        yield from _health_problems(service.health, filled=filled)
    if not 1 <= service.ready_timeout_s <= 3600 or not 1 <= service.stop.timeout_s <= 3600:
        yield "a time limit is not between a second and an hour"
    if service.stop.signal not in SIGNALS or service.reload not in SIGNALS | {""}:
        yield "not the name of a signal for services"
    if service.every and (service.kind != "once" or not _CALENDAR.fullmatch(service.every)):
        yield "every is for services of the kind once, and a calendar event"
    if service.change == "overlap" and not service.sockets:
        yield "overlap needs sockets that both instances share"
    if service.change == "reload" and not service.reload:
        yield "change says reload, but there is no signal for it"
    if service.ready == "socket" and service.health is None:
        yield "ready by socket needs a health check"
    yield from _reference_problems(service.after)
    yield from _limit_problems(service.limits)
    yield from entitlement_problems(service.entitlements)


def _shared_units(app: str, services: tuple[Service, ...]) -> Iterator[str]:
    """Sockets of the main service whose unit, `APP.NAME.socket`, another service's socket has."""
    others = {s.name for s in services if s.name in {socket.name for socket in s.sockets}}
    for service in services:
        if service.name == app:
            yield from (s.name for s in service.sockets if s.name in others - {app})


def _is_reserved(name: str) -> bool:
    return name in RESERVED or name.startswith(TASK)


def _is_name(text: str) -> bool:
    try:
        parse_app_name(text)
    except UsageError:
        return False
    return True


def command_problems(argv: tuple[str, ...]) -> Iterator[str]:
    """What is wrong with a command."""
    if not argv or not argv[0].startswith("/"):
        yield "the command is not an absolute path"
    if not all(len(text) <= MAX_TEXT and is_harmless(text) for text in argv):
        yield "the command has control characters or is too long"


def environment_problems(environment: dict[str, str]) -> Iterator[str]:
    """What is wrong with environment variables."""
    for name, value in environment.items():
        if not _VARIABLE.fullmatch(name):
            yield f"not the name of an environment variable: {escape(name)}"
        elif _REFUSED_VARIABLES.fullmatch(name):
            yield f"the variable {name} is not a bundle's to set"
        if len(value) > MAX_TEXT or not is_harmless(value):
            yield f"the variable {escape(name)} has control characters or is too long"


def _socket_problems(app: str, sockets: tuple[Socket, ...], *, filled: bool) -> Iterator[str]:
    if len({socket.name for socket in sockets}) != len(sockets) or len(sockets) > 16:
        yield "two sockets have one name, or there are more than 16"
    for socket in sockets:
        if not _is_name(socket.name) or socket.name in RESERVED:
            yield f"not a socket's name: {escape(socket.name)}"
        yield from listen_problems(app, socket.listen, filled=filled)
        if not 1 <= socket.backlog <= 65_535:
            yield "a backlog is out of range"


def listen_problems(app: str, listen: str, *, filled: bool = False) -> Iterator[str]:
    """What is wrong with a socket's address, settings filled in or not."""
    if not is_harmless(listen):
        yield "a socket's address has control characters"
    elif filled or not _FILLED.search(listen):
        is_path = listen.startswith("/")
        if not _LISTEN.fullmatch(listen) or (is_path and not listen.startswith(f"/run/{app}/")):
            yield f"not ADDRESS:PORT, nor a path below /run/{app}: {escape(listen)}"
        elif is_path and {"", ".", ".."} & set(listen.split("/")[1:]):
            yield f"not a normal path: {escape(listen)}"
        elif not is_path and not 1 <= int(listen.rpartition(":")[2]) <= 65_535:
            yield f"there is no such port: {escape(listen)}"


def _health_problems(health: Health, *, filled: bool) -> Iterator[str]:
    if sum(map(bool, (health.http, health.tcp, health.command))) != 1:
        yield "health needs exactly one of http, tcp and command"
    if health.http and not health.http.startswith(("http://", "https://")):
        yield "health asks over http:// or https://"
    if health.http and not _host_of(health.http):
        yield "health asks no host"
    if not all(map(is_harmless, (health.http, health.tcp))):
        yield "health has control characters"
    for address in filter(None, (health.tcp, _host_of(health.http))):
        if (filled or not _FILLED.search(address)) and not _is_host(address):
            yield f"health asks at no address: {escape(address)}"
    if health.command:
        yield from command_problems(health.command)
    if not 0 <= health.grace_s <= 3600 or not 1 <= health.attempts <= 1000:
        yield "health's grace period or attempts are out of range"
    if not 1 <= health.interval_s <= 600 or not 1 <= health.timeout_s <= 600:
        yield "health's interval or time limit is out of range"


def _is_host(address: str) -> bool:
    return bool(_HOST.fullmatch(address)) and 1 <= int(address.rpartition(":")[2]) <= 65_535


def _host_of(url: str) -> str:
    """The part of a URL between `//` and the path, with a port if it has none."""
    host = re.split("[/?#]", url.partition("//")[2], maxsplit=1)[0]
    return host if not host or re.search(r":[^]]*$", host) else f"{host}:80"


def _reference_problems(after: tuple[str, ...]) -> Iterator[str]:
    for each in after:
        app, slash, name = each.partition("/")
        if not _is_name(app) or bool(slash) != _is_name(name):
            yield f"not APP or APP/SERVICE: {escape(each)}"


def _limit_problems(limits: Limits) -> Iterator[str]:
    if not 1 << 20 <= limits.memory_bytes <= 1 << 50:
        yield "the memory limit is out of range"
    if not 1 <= limits.tasks <= 1 << 22 or not 16 <= limits.open_files <= 1 << 20:
        yield "the limit of tasks or open files is out of range"
    if not 0 <= limits.cpu_percent <= 100_000:
        yield "the processor limit is out of range"


def entitlement_problems(entitlements: Iterable[str]) -> Iterator[str]:
    """What is wrong with a list of entitlements."""
    given = list(entitlements)
    if given != sorted(set(given)):
        yield "entitlements are not sorted, or one stands twice"
    for each in given:
        try:
            confinement.parse(each)
        except ManifestError as error:
            yield error.what
