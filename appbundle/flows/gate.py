"""The gate that every start of a service passes: it takes connections, and it is healthy."""

from __future__ import annotations

import socket as sockets
import time
from dataclasses import dataclass
from urllib.parse import urlsplit, urlunsplit

import msgspec

from appbundle.bundle.services import Health, Service, Socket
from appbundle.errors import ServiceFailedError
from appbundle.flows import configuration, together
from appbundle.flows.context import Context
from appbundle.services import health
from appbundle.services.model import Backend, Instance, State
from appbundle.system import accepting

_SETTLE_S = 1.0
"""How long a service without a health check is watched."""
_LOOK_S = 0.1
_TRIAL_STOP_S = 5
_ACCEPT_S = 0.5
"""How long one connection may wait to be taken by anybody."""

Checked = tuple[Instance, Service]
"""An instance with what is asked of it."""


@dataclass(frozen=True, slots=True)
class Checker:
    """Waits until instances do their work, or says why they do not."""

    context: Context
    backend: Backend

    def check(self, *instances: Checked) -> None:
        """Wait until all take connections, and are healthy.

        Raises:
            ServiceFailedError: Some ended, take none, or are not healthy.
        """

        def check_one(one: Checked) -> None:
            self._wait_accepting(*one)
            self._ask_health(*one)

        together.on_each(check_one, instances)

    def ask_health(self, *instances: Checked) -> None:
        """Wait until all are healthy."""
        together.on_each(lambda one: self._ask_health(*one), instances)

    def wait_accepting(self, *instances: Checked) -> None:
        """Wait until these very instances take connections at shared sockets, and not others."""
        together.on_each(lambda one: self._wait_accepting(*one), instances)

    def _ask_health(self, instance: Instance, service: Service) -> None:
        if service.health is None:
            self._stay_up(instance, for_s=0 if service.kind == "once" else _SETTLE_S)
            return
        verdict = health.wait_healthy(
            service.health,
            ask=lambda argv, timeout_s: configuration.ask(
                self.context.layout, instance, argv, timeout_s
            ),
            alive=lambda: self._why_dead(instance),
        )
        if not verdict.healthy:
            raise ServiceFailedError(f"{instance} is not healthy: {verdict.why}")

    def _stay_up(self, instance: Instance, *, for_s: float) -> None:
        """Whoever cannot be asked must at least not end at once."""
        deadline = time.monotonic() + for_s
        while True:
            if why := self._why_dead(instance):
                raise ServiceFailedError(f"{instance} is not running: {why}")
            if time.monotonic() >= deadline:
                return
            time.sleep(_LOOK_S)

    def _why_dead(self, instance: Instance) -> str:
        now = self.backend.observe([instance])[instance]
        if now.is_up or now.state is State.DONE:
            return ""
        return now.why or f"it is {now.state.value}"

    def _wait_accepting(self, instance: Instance, service: Service) -> None:
        addresses = [each for each in map(_tcp_address, service.sockets) if each]
        if service.kind == "once" or not addresses:
            return
        deadline = time.monotonic() + service.ready_timeout_s
        while time.monotonic() < deadline:
            now = self.backend.observe([instance])[instance]
            if why := "" if now.is_up else now.why or f"it is {now.state.value}":
                raise ServiceFailedError(f"{instance} is not running: {why}")
            family = accepting.family_of(now.pid) if now.pid else set()
            if accepting.accepts(addresses[0], family, timeout_s=_ACCEPT_S):
                return
            time.sleep(0.05)
        raise ServiceFailedError(
            f"{instance} takes no connection at {addresses[0][0]}:{addresses[0][1]} "
            f"in {service.ready_timeout_s} s"
        )


def _tcp_address(socket: Socket) -> tuple[str, int] | None:
    if socket.listen.startswith("/"):
        return None
    host, _, port = socket.listen.rpartition(":")
    host = host.strip("[]")
    return ({"*": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host), int(port))  # noqa: S104


def on_trial(service: Service, taken: set[int]) -> Service:
    """The same service on ports of the loopback that nobody knows, asked there for its health.

    Args:
        taken: Ports that others on trial have already; those that it gets are added.
    """
    moved = {}
    for socket in service.sockets:
        address = _tcp_address(socket)
        if address is not None:
            host = "::1" if ":" in address[0] else "127.0.0.1"
            moved[socket] = (address, (host, _free_port(host, taken)))
    private = tuple(
        msgspec.structs.replace(socket, listen=_listen(*moved[socket][1]))
        if socket in moved
        else msgspec.structs.replace(socket, listen=f"{socket.listen}.next")
        for socket in service.sockets
    )
    asked = service.health
    for old, new in moved.values():
        asked = _redirect(asked, old, new) if asked else None
    # Nobody is answered there, so nobody has to wait for its end.
    stop = msgspec.structs.replace(
        service.stop, timeout_s=min(service.stop.timeout_s, _TRIAL_STOP_S)
    )
    return msgspec.structs.replace(service, sockets=private, health=asked, stop=stop)


def _redirect(asked: Health, old: tuple[str, int], new: tuple[str, int]) -> Health:
    if asked.tcp:
        port = asked.tcp.rpartition(":")[2]
        if int(port) == old[1]:
            return msgspec.structs.replace(asked, tcp=_listen(*new))
    parts = urlsplit(asked.http)
    if asked.http and (parts.port or (443 if parts.scheme == "https" else 80)) == old[1]:
        return msgspec.structs.replace(asked, http=urlunsplit(parts._replace(netloc=_listen(*new))))
    return asked


def _listen(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _free_port(host: str, taken: set[int]) -> int:
    family = sockets.AF_INET6 if ":" in host else sockets.AF_INET
    while True:
        with sockets.socket(family) as trial:
            trial.bind((host, 0))
            port = int(trial.getsockname()[1])
        if port not in taken:
            taken.add(port)
            return port
