"""A repository on a web server or in an object store."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import quote

from appbundle.errors import UnreachableError
from appbundle.repository.transports.http_client import HttpClient, Response
from appbundle.repository.transports.ranges import Remote, check_status, read_stretches
from appbundle.repository.transports.transport import Stretch

_ATTEMPTS = 2


@dataclass(frozen=True, slots=True)
class HttpTransport:
    """Reads files below an address.

    Args:
        url: The folder's, without a slash at its end; checked.
        client: Sends the requests.
    """

    url: str
    client: HttpClient

    @property
    def name(self) -> str:
        """The address, which has nothing in it that should not be shown."""
        return self.url

    def read(self, path: str, *, limit: int) -> bytes:
        """Read a small file whole; one that breaks off is asked for once more."""
        for _ in range(_ATTEMPTS - 1):
            try:
                return self._read(path, limit)
            except UnreachableError:
                pass
        return self._read(path, limit)

    def _read(self, path: str, limit: int) -> bytes:
        with self._ask(path) as response:
            check_status(response, f"{path} in {self.name}")
            return response.read(limit=limit)

    def read_stretches(
        self, path: str, *, file_size: int, stretches: Sequence[Stretch]
    ) -> Iterator[bytes]:
        """Read parts of a file."""
        name = f"{path} in {self.name}"

        def ask(headers: Mapping[str, str]) -> Response:
            return self._ask(path, headers)

        return read_stretches(Remote(name=name, size=file_size, ask=ask), stretches)

    def _ask(self, path: str, headers: Mapping[str, str] | None = None) -> Response:
        return self.client.ask("GET", f"{self.url}/{quote(path)}", headers=headers)
