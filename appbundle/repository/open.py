"""From a repository's address to the transport that reaches it."""

import os
import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from appbundle.errors import UsageError
from appbundle.names import escape
from appbundle.repository.transports.local import LocalTransport
from appbundle.repository.transports.transport import Transport

if TYPE_CHECKING:
    from appbundle.repository.registry.api import Registry

_PLAIN = re.compile(r"[!-~]+", re.ASCII)
_HINT = "https://HOST/PATH, http://HOST/PATH, oci://HOST/PATH or file:///DIRECTORY"


def open_transport(url: str, *, redirect_hosts: Sequence[str] = ()) -> Transport:
    """Give the transport for an address; nothing is asked yet.

    Args:
        url: `https://…`, `http://…`, `oci://…`, `oci+http://…`, `file:///…`.
        redirect_hosts: Hosts to which a server may send the client on, besides its own.

    Raises:
        UsageError: It is no such address.
    """
    parts = urlsplit(url) if _PLAIN.fullmatch(url) else None
    if parts is None or parts.query or parts.fragment:
        raise UsageError(f"{escape(url)} is not a repository's address", hint=_HINT)
    if parts.username is not None:
        raise UsageError(
            f"the address of {escape(parts.hostname or '')} has credentials in it",
            hint="an address is shown, logged and kept for all to read; leave them out",
        )
    match parts.scheme:
        case "file" if not parts.netloc and os.path.isabs(parts.path):
            return LocalTransport(Path(unquote(parts.path)))
        case "http" | "https" if parts.hostname:
            return _http(url, redirect_hosts)
        case "oci" | "oci+http":
            return _oci(url, redirect_hosts)
        case _:
            raise UsageError(f"{escape(url)} is not a repository's address", hint=_HINT)


def _http(url: str, redirect_hosts: Sequence[str]) -> Transport:
    # Loaded only by nodes that have such a repository.
    from appbundle.repository.transports.http import HttpTransport
    from appbundle.repository.transports.http_client import Elsewhere, HttpClient

    client = HttpClient(elsewhere=Elsewhere(hosts=frozenset(redirect_hosts)))
    return HttpTransport(url.rstrip("/"), client)


def _oci(url: str, redirect_hosts: Sequence[str]) -> Transport:
    from appbundle.repository.registry.transport import OciTransport

    return OciTransport(open_registry(url, redirect_hosts=redirect_hosts))


def open_registry(
    url: str, *, may_push: bool = False, redirect_hosts: Sequence[str] = ()
) -> "Registry":
    """Give a client for an address in a registry, with this user's credentials.

    Args:
        url: `oci://…`, `oci+http://…`.
        may_push: Whether to ask for the right to.
        redirect_hosts: As of `open_transport`.

    Raises:
        UsageError: It is no such address.
    """
    from appbundle.repository.registry.api import Registry, parse_address
    from appbundle.repository.registry.docker_config import find_credentials

    return Registry(
        parse_address(url),
        find_credentials=partial(find_credentials, environment=os.environ),
        may_push=may_push,
        redirect_hosts=frozenset(redirect_hosts),
    )
