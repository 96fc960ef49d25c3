"""A repository of a registry: manifests by tag, blobs by digest; a small client of its own.

What comes back is compared with the digest that it was asked by; what goes up is compared by the
registry. Source: the OCI distribution specification, 1.1.
"""

import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, NoReturn

import msgspec

from appbundle.errors import CorruptError, NotFoundError, UnreachableError, UsageError
from appbundle.names import Digest, escape
from appbundle.repository.registry.access import Access
from appbundle.repository.registry.docker_config import Credentials
from appbundle.repository.transports.http_client import (
    SILENCE_S,
    Elsewhere,
    HttpClient,
    Response,
    join,
    origin,
)

MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
MAX_MANIFEST = 4 << 20
"""Bytes that every registry takes, and many take no more."""
SCHEMES = {"oci": "https", "oci+http": "http"}
FindCredentials = Callable[[str], Credentials | None]
"""Gives the credentials for a host, `name` or `name:port`."""

_HOST = re.compile(r"(?:[a-z0-9.-]+|\[[0-9a-f:.]+\])(?::[0-9]{1,5})?", re.ASCII)
_WORD = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_PATH = re.compile(rf"(?=.{{1,255}}\Z){_WORD}(?:/{_WORD})*", re.ASCII)
_API_HOSTS = {"docker.io": "registry-1.docker.io"}
_MAX_ERROR = 16 << 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """One repository of one registry.

    Args:
        scheme: `oci` for https, `oci+http` for http.
        host: Name or address, with a port if it is not the usual one.
        path: What the registry calls the repository's name.
    """

    scheme: str
    host: str
    path: str

    def __str__(self) -> str:
        return f"{self.scheme}://{self.host}/{self.path}"

    @property
    def server(self) -> str:
        """The registry's own address."""
        return f"{SCHEMES[self.scheme]}://{_API_HOSTS.get(self.host, self.host)}"

    @property
    def api(self) -> str:
        """Where the repository's part of the registry's API begins."""
        return f"{self.server}/v2/{self.path}"


def parse_address(url: str) -> Address:
    """Parse `oci://HOST[:PORT]/PATH`, or `oci+http://…` for a registry without TLS.

    Raises:
        UsageError: It is not such an address.
    """
    scheme, _, rest = url.partition("://")
    host, _, path = rest.partition("/")
    if scheme not in SCHEMES or not _HOST.fullmatch(host) or not _PATH.fullmatch(path):
        raise UsageError(
            f"{escape(url)} is not a registry's address",
            hint="oci://HOST[:PORT]/PATH, all in lower case; oci+http:// without TLS",
        )
    return Address(scheme=scheme, host=host, path=path)


class Descriptor(msgspec.Struct, frozen=True, omit_defaults=True, rename="camel"):
    """What a manifest says of a blob.

    Args:
        media_type: Of its content.
        digest: `sha256:` and 64 digits.
        size: Bytes.
        annotations: For people and other tools.
    """

    media_type: str
    digest: Annotated[str, msgspec.Meta(pattern="^sha256:[0-9a-f]{64}$")]
    size: Annotated[int, msgspec.Meta(ge=0, lt=1 << 60)]
    annotations: dict[str, str] = {}

    @property
    def sha256(self) -> Digest:
        """The digest's digits."""
        return Digest(self.digest.removeprefix("sha256:"))


class Registry:
    """Speaks with one repository of a registry; threads may share it.

    Args:
        address: Of the repository.
        find_credentials: Called when the registry asks for some.
        may_push: Whether to ask for tokens that allow that.
        redirect_hosts: Hosts to which the registry may lead though their addresses are not public.
    """

    def __init__(
        self,
        address: Address,
        *,
        find_credentials: FindCredentials,
        may_push: bool = False,
        redirect_hosts: frozenset[str] = frozenset(),
    ) -> None:
        self.address = address
        # Registries keep blobs in stores whose names nobody knows beforehand.
        self._http = HttpClient(elsewhere=Elsewhere(hosts=redirect_hosts, public=True))
        self.origin = origin(address.server)
        host = _API_HOSTS.get(address.host, address.host)
        self._access = Access(
            self._http,
            self.origin,
            host=address.host,
            scope=f"repository:{address.path}:{'pull,push' if may_push else 'pull'}",
            find=lambda: find_credentials(host),
        )

    def read_manifest(self, tag: str, *, limit: int = MAX_MANIFEST) -> bytes:
        """Read the manifest that has a tag.

        Raises:
            NotFoundError: There is none.
            AppbError: As `ask`.
        """
        url = f"{self.address.api}/manifests/{tag}"
        with self.ask("GET", url, headers={"Accept": MANIFEST_TYPE}) as response:
            self.expect(response, 200, what=f"tag {tag}")
            return response.read(limit=limit)

    def read_blob(self, digest: Digest, *, limit: int) -> bytes:
        """Read a small blob whole.

        Raises:
            NotFoundError: There is none.
            CorruptError: It is longer, or has another digest.
            AppbError: As `ask`.
        """
        with self.open_blob(digest) as response:
            self.expect(response, 200, what=f"blob {digest}")
            content = response.read(limit=limit)
        if hashlib.sha256(content).hexdigest() != digest:
            raise CorruptError(f"{self.address} gives other bytes for blob {digest}")
        return content

    def open_blob(self, digest: Digest, *, headers: Mapping[str, str] | None = None) -> Response:
        """Ask for a blob; the answer may have any status."""
        return self.ask("GET", f"{self.address.api}/blobs/sha256:{digest}", headers=headers)

    def ask(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        silence_s: float = SILENCE_S,
    ) -> Response:
        """Send a request, with what the registry wants to see.

        Args:
            method: As of HTTP.
            url: Of this registry.
            headers: More of them.
            body: What is sent.
            silence_s: So long nothing may come.

        Raises:
            DeniedError: The registry wants other credentials.
            UnreachableError: It cannot be reached, or somebody that it names.
            CorruptError: It leads to where it may not.
        """
        for _ in range(2):
            used = self._access.authorization
            sent = dict(headers or {})
            if used:
                sent["Authorization"] = used
            response = self._http.ask(method, url, headers=sent, body=body, silence_s=silence_s)
            if response.status != 401 or response.origin != self.origin:
                return response
            response.close()
            self._access.renew(used, response)
        raise self._access.denied()

    def expect(self, response: Response, *statuses: int, what: str) -> None:
        """Turn any other status into an error.

        Args:
            response: Its body is read for the registry's own words.
            statuses: Those that are good.
            what: What was asked for, for messages.
        """
        if response.status not in statuses:
            with response:
                self._fail(response, what)

    def check_access(self, response: Response) -> None:
        """Turn the registry's own refusal into an error; a store that it leads to has its own.

        Raises:
            DeniedError: The credentials are not enough.
        """
        if response.status in (401, 403) and response.origin == self.origin:
            response.close()
            raise self._access.denied()

    def location(self, response: Response) -> str:
        """Where an upload goes on, as the registry says: at the registry itself.

        Raises:
            CorruptError: It leads elsewhere; nothing that is ours, nor credentials, goes there.
        """
        url = join(self.address.server, response.header("Location"))
        self._http.check(url, start=self.origin)
        if origin(url) != self.origin:
            raise CorruptError(
                f"{self.address} leads uploads to {escape(str(origin(url)))}",
                hint="a registry behind a proxy has to be told its own address",
            )
        return url

    def _fail(self, response: Response, what: str) -> NoReturn:
        if response.status == 404:
            raise NotFoundError(f"{self.address} has no {what}")
        self.check_access(response)
        words = _words(response)
        message = f"{response.origin} answers {response.status} to {what}{words}"
        if response.status == 429 or response.status >= 500:
            raise UnreachableError(message, hint="try again later")
        raise CorruptError(message)


class _Error(msgspec.Struct):
    code: str = ""
    message: str = ""


class _Errors(msgspec.Struct):
    errors: list[_Error] = []


def _words(response: Response) -> str:
    try:
        said = msgspec.json.decode(response.read(limit=_MAX_ERROR), type=_Errors).errors
    except (CorruptError, UnreachableError, msgspec.MsgspecError):
        return ""
    return f": {escape(said[0].message or said[0].code)}" if said else ""
