"""What a registry wants to see before it answers: nothing, a password, or a token.

Source: distribution's `spec/auth/token.md` and `oauth.md`; RFC 9110, section 11.
"""

import base64
import ipaddress
import re
import threading
from collections.abc import Callable
from urllib.parse import urlencode

import msgspec

from appbundle.errors import CorruptError, DeniedError
from appbundle.repository.registry.docker_config import Credentials
from appbundle.repository.transports.http_client import HttpClient, Origin, Response, origin

_MAX_CHALLENGE = 4096
_MAX_TOKEN = 64 << 10
_CHALLENGE = re.compile(
    r"(?:^|,)\s*(basic|bearer)\s+((?:[a-z_]+=(?:\"[^\"]*\"|[^\s,\"]+)(?:\s*,\s*(?=[a-z_]+=))?)*)",
    re.IGNORECASE | re.ASCII,
)
_PARAMETER = re.compile(r"([a-z_]+)=(?:\"([^\"]*)\"|([^\s,\"]+))", re.IGNORECASE | re.ASCII)
_CLIENT = "appb"


class _Token(msgspec.Struct):
    token: str = ""
    access_token: str = ""


class Access:
    """Makes the header Authorization for one repository of a registry; threads may share it.

    Args:
        http: Asks for tokens.
        start: The registry.
        host: Its name for messages.
        scope: What is asked for: `repository:PATH:pull`, or `pull,push`.
        find: Gives the credentials, if there are any; called when they are wanted.
    """

    def __init__(
        self,
        http: HttpClient,
        start: Origin,
        *,
        host: str,
        scope: str,
        find: Callable[[], Credentials | None],
    ) -> None:
        self._http = http
        self._start = start
        self._host = host
        self._scope = scope
        self._find = find
        self._renewing = threading.Lock()
        self.authorization = ""

    def renew(self, used: str, refusal: Response) -> None:
        """Answer a registry's challenge.

        Args:
            used: The `authorization` that was not enough.
            refusal: The answer that says so.

        Raises:
            DeniedError: There are no credentials, or the registry does not take them.
            CorruptError: The challenge makes no sense, or leads to where it may not.
            UnreachableError: Who gives tokens cannot be reached.
        """
        with self._renewing:
            if self.authorization != used:
                return
            offers = parse_challenges(refusal.header("WWW-Authenticate"))
            if "bearer" in offers:
                token = self._token(offers["bearer"], public_only=refusal.is_public)
                self.authorization = f"Bearer {token}"
            elif "basic" in offers:
                self.authorization = self._password(used)
            else:
                raise CorruptError(f"{self._start} asks for credentials in a way that it made up")

    def denied(self) -> DeniedError:
        """Nobody may do this, or not with these credentials."""
        return DeniedError(
            f"{self._host} denies access to what was asked for ({self._scope})",
            hint=f"docker login {self._host}, or write what it would to docker's config.json",
        )

    def _password(self, used: str) -> str:
        found = self._credentials(self._start)
        if found is None or found.is_identity_token:
            raise self.denied()
        header = _basic(found)
        if header == used:
            raise self.denied()
        return header

    def _token(self, offer: dict[str, str], *, public_only: bool) -> str:
        realm = offer.get("realm", "")
        self._http.check(realm, start=self._start)
        query = {"service": offer["service"]} if offer.get("service") else {}
        query["scope"] = self._scope
        found = self._credentials(origin(realm))
        if found is not None and found.is_identity_token:
            query |= {"grant_type": "refresh_token", "refresh_token": found.secret}
            query["client_id"] = _CLIENT
            response = self._http.ask_elsewhere(
                "POST",
                realm,
                start=self._start,
                public_only=public_only,
                headers={"Content-Type": "application/x-www-form-urlencoded"},
                body=urlencode(query).encode(),
            )
        else:
            headers = {} if found is None else {"Authorization": _basic(found)}
            mark = "&" if "?" in realm else "?"
            url = f"{realm}{mark}{urlencode(query)}"
            response = self._http.ask_elsewhere(
                "GET", url, start=self._start, public_only=public_only, headers=headers
            )
        with response:
            return self._parse(response)

    def _parse(self, response: Response) -> str:
        if response.status in (400, 401, 403):
            raise self.denied()
        body = response.read(limit=_MAX_TOKEN)
        try:
            answer = msgspec.json.decode(body, type=_Token)
        except msgspec.MsgspecError as e:
            raise CorruptError(
                f"{response.origin} gives no token (status {response.status})"
            ) from e
        token = answer.token or answer.access_token
        if not token or not token.isascii() or not token.isprintable():
            raise CorruptError(f"{response.origin} gives no token (status {response.status})")
        return token

    def _credentials(self, shown_to: Origin) -> Credentials | None:
        found = self._find()
        if found is not None and shown_to.scheme == "http" and not _is_loopback(shown_to.host):
            raise DeniedError(
                f"{self._host} wants credentials without encryption",
                hint="they are sent over https, or to this machine itself",
            )
        return found


def parse_challenges(header: str) -> dict[str, dict[str, str]]:
    """Take the header WWW-Authenticate apart.

    Returns:
        Parameters by scheme, `basic` or `bearer`; others are left out.
    """
    return {
        scheme.lower(): {
            name.lower(): quoted or plain for name, quoted, plain in _PARAMETER.findall(parameters)
        }
        for scheme, parameters in _CHALLENGE.findall(header[:_MAX_CHALLENGE])
    }


def _basic(credentials: Credentials) -> str:
    pair = f"{credentials.user}:{credentials.secret}".encode()
    return f"Basic {base64.b64encode(pair).decode()}"


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
