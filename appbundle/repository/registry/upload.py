"""Blobs and manifests go up to a registry; an upload that breaks off goes on where it was.

Source: the OCI distribution specification, 1.1, "Push".
"""

import hashlib
import re
import time
from collections.abc import Callable

from appbundle.errors import CorruptError, NotFoundError, UnreachableError
from appbundle.names import Digest
from appbundle.repository.registry.api import MANIFEST_TYPE, Registry
from appbundle.repository.transports.http_client import Response

CHUNK_BYTES = 16 << 20
"""What goes in one request: in memory once, and less than what proxies let pass."""
_ATTEMPTS = 5
"""So many of them without any progress are enough."""
_PAUSE_S = 0.25
_COMMIT_S = 600.0
"""A registry may copy a blob to its place before it answers."""
_BYTES = "application/octet-stream"
_OUT_OF_ORDER = 416
_RANGE = re.compile(r"(?:bytes=)?0-([0-9]{1,18})", re.ASCII)
_BROKEN = (UnreachableError, NotFoundError)
"""Breaks, and a registry that has forgotten an upload."""

Read = Callable[[int, int], bytes]
"""Gives so many bytes of a content from an offset on."""


def upload_blob(
    registry: Registry,
    digest: Digest,
    *,
    size: int,
    read: Read,
    pause: Callable[[float], None] = time.sleep,
) -> None:
    """Give a registry a blob that it lacks.

    Args:
        registry: Where to.
        digest: Compared by the registry with what arrives.
        size: Bytes.
        read: Gives the content; asked again for what did not arrive.
        pause: Waits so many seconds.

    Raises:
        UnreachableError: It broke off again and again.
        CorruptError: The registry has got other bytes than these.
        AppbError: As `Registry.ask`.
    """
    upload = _Upload(registry, digest, size, read)
    failures = 0
    while True:
        before = upload.at
        try:
            return upload.go_on()
        except _BROKEN:
            failures = 1 if upload.at > before else failures + 1
            if failures == _ATTEMPTS:
                raise
        pause(_PAUSE_S * 2**failures)


def upload_bytes(registry: Registry, content: bytes) -> Digest:
    """Give a registry a small blob, unless it has it; otherwise as `upload_blob`."""
    digest = Digest(hashlib.sha256(content).hexdigest())

    def read(offset: int, size: int) -> bytes:
        return content[offset : offset + size]

    if not has_blob(registry, digest):
        upload_blob(registry, digest, size=len(content), read=read)
    return digest


def upload_manifest(registry: Registry, tag: str, content: bytes) -> None:
    """Make a tag mean a manifest; the registry has its blobs.

    Raises:
        AppbError: As `Registry.ask`.
    """
    url = f"{registry.address.api}/manifests/{tag}"
    headers = {"Content-Type": MANIFEST_TYPE}
    with registry.ask("PUT", url, headers=headers, body=content) as response:
        registry.expect(response, 201, what=f"tag {tag}")


def has_blob(registry: Registry, digest: Digest) -> bool:
    """Whether a registry has a blob, as it says."""
    url = f"{registry.address.api}/blobs/sha256:{digest}"
    with registry.ask("HEAD", url) as response:
        if response.status == 404:
            return False
        registry.expect(response, 200, what=f"blob {digest}")
        return True


class _Upload:
    """One upload and how far it got."""

    def __init__(self, registry: Registry, digest: Digest, size: int, read: Read) -> None:
        self._registry = registry
        self._digest = digest
        self._size = size
        self._read = read
        self.at = 0
        self._location = ""
        self._is_in_doubt = False

    def go_on(self) -> None:
        """Send what is missing; the last chunk says that it is the last."""
        if self._is_in_doubt and self._find_out():
            return
        self._is_in_doubt = True
        if not self._location:
            self._begin()
        while self._size - self.at > CHUNK_BYTES:
            self._send_chunk()
        self._send_last()

    def _find_out(self) -> bool:
        """Learn how much has arrived; whether it is all.

        Begins anew if the registry does not know the upload any more.
        """
        if has_blob(self._registry, self._digest):
            # The answer is what was lost.
            return True
        if self._location:
            with self._registry.ask("GET", self._location) as response:
                if response.status == 204:
                    self._accept(response)
                else:
                    self._location = ""
        return False

    def _begin(self) -> None:
        url = f"{self._registry.address.api}/blobs/uploads/"
        with self._registry.ask("POST", url, body=b"") as response:
            self._registry.expect(response, 202, what="an upload")
            self._location, self.at = self._registry.location(response), 0

    def _send_chunk(self) -> None:
        with self._send("PATCH", self._location, CHUNK_BYTES) as response:
            self._registry.expect(response, 202, what="a part of an upload")
            expected = self.at + CHUNK_BYTES
            self._accept(response)
        if self.at != expected:
            raise UnreachableError(f"{self._registry.address} has taken a part of an upload only")

    def _send_last(self) -> None:
        mark = "&" if "?" in self._location else "?"
        url = f"{self._location}{mark}digest=sha256:{self._digest}"
        with self._send("PUT", url, self._size - self.at) as response:
            self._registry.expect(response, 201, what=f"blob {self._digest}")

    def _send(self, method: str, url: str, size: int) -> Response:
        body = self._read(self.at, size)
        if len(body) != size:
            raise CorruptError(f"what should become blob {self._digest} is too short")
        headers = {"Content-Type": _BYTES}
        if size:
            headers["Content-Range"] = f"{self.at}-{self.at + size - 1}"
        response = self._registry.ask(method, url, headers=headers, body=body, silence_s=_COMMIT_S)
        if response.status == _OUT_OF_ORDER:
            response.close()
            raise UnreachableError(f"{self._registry.address} has lost a part of an upload")
        return response

    def _accept(self, response: Response) -> None:
        """Take over where the registry says that the upload goes on."""
        got = _RANGE.fullmatch(response.header("Range"))
        # Registries say 0-0 of an upload that has nothing yet.
        self.at = int(got[1]) + 1 if got and got[1] != "0" else 0
        if self.at > self._size:
            raise CorruptError(f"{self._registry.address} has got more than was sent")
        self._location = self._registry.location(response)
