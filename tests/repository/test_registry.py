"""Registries that ask for tokens, lie, lose uploads or lead elsewhere."""

import base64
import hashlib
import re
from collections.abc import Callable
from urllib.parse import parse_qs, urlsplit

import msgspec
import pytest

from appbundle.errors import AppbError, CorruptError, DeniedError, UnreachableError
from appbundle.names import Digest
from appbundle.repository.registry import upload as registry_upload
from appbundle.repository.registry.access import parse_challenges
from appbundle.repository.registry.api import Registry, parse_address
from appbundle.repository.registry.docker_config import Credentials
from appbundle.repository.registry.transport import (
    METADATA_TYPE,
    OciTransport,
    describe,
    encode_manifest,
)
from appbundle.repository.registry.upload import upload_blob
from appbundle.repository.transports.transport import Stretch
from tests.repository.web import Request, Web, answer, serving

FILE = b'{"signed": {}}'
DIGEST = Digest(hashlib.sha256(FILE).hexdigest())
TARGET = f"targets/hello/{DIGEST}.hello-1.0.bundle"
MANIFEST = encode_manifest(METADATA_TYPE, [describe("application/json", FILE)])
USER = Credentials(user="team", secret="secret")
BASIC = f"Basic {base64.b64encode(b'team:secret').decode()}"


def client(
    web: Web, *, user: Credentials | None = USER, may_push: bool = False, hosts: str = ""
) -> Registry:
    """A client of a server that plays a registry."""
    return Registry(
        parse_address(f"oci+http://{web.host}:{web.port}/team/app"),
        find_credentials=lambda _: user,
        may_push=may_push,
        redirect_hosts=frozenset(hosts.split()),
    )


def honest(request: Request) -> bytes:
    """What a registry with one file of metadata answers."""
    if request.path == "/v2/team/app/manifests/metadata-timestamp":
        return answer(MANIFEST)
    if request.path == f"/v2/team/app/blobs/sha256:{DIGEST}":
        return answer(FILE)
    return answer(b'{"errors":[{"code":"UNKNOWN"}]}', status="404 Not Found")


def read(registry: Registry, *, limit: int = 1000) -> bytes:
    """Read the file of metadata."""
    return OciTransport(registry).read("metadata/timestamp.json", limit=limit)


def instead(part: str, wrong: bytes) -> Callable[[Request], bytes]:
    """A registry that gives something else for one kind of thing."""
    return lambda request: wrong if part in request.path else honest(request)


@pytest.mark.parametrize(
    "answers",
    [
        instead("blobs", answer(FILE.replace(b"s", b"S"))),
        instead("blobs", answer(FILE + b" ")),
        instead("blobs", answer(b"x" * 5000)),
        instead("manifests", answer(b"")),
        instead("manifests", answer(b"[]")),
        instead("manifests", answer(encode_manifest(METADATA_TYPE, []))),
        instead("manifests", answer(encode_manifest(METADATA_TYPE, [describe("", FILE)] * 2))),
        instead("manifests", answer(encode_manifest("", [describe("", bytes(1001))]))),
        instead("manifests", answer(MANIFEST.replace(b"sha256:", b"sha512:"))),
        instead("manifests", answer(MANIFEST.replace(DIGEST.encode(), b"../../../etc"))),
        instead("manifests", answer(MANIFEST + b" " * 5000)),
    ],
)
def test_wrong_bytes_are_refused(answers: Callable[[Request], bytes]) -> None:
    """Whatever a registry gives has the digest that it was asked by, or counts for nothing."""
    with serving(answers) as web, pytest.raises(CorruptError):
        read(client(web))


def test_honest_control() -> None:
    """The same registry without the lie is read."""
    with serving(honest) as web:
        assert read(client(web)) == FILE


def guarded(request: Request) -> bytes:
    """A registry that wants a token, and gives it to who has the password."""
    authorization = request.headers.get("authorization", "")
    if request.path.startswith("/token"):
        if authorization != BASIC:
            return answer(status="401 Unauthorized")
        return answer(b'{"access_token":"abc","expires_in":60}')
    if authorization == "Bearer abc":
        return honest(request)
    realm = f"http://{request.headers['host']}/token?a=b"
    offer = f'Bearer realm="{realm}",service="reg, istry",scope="repository:x:*"'
    return answer(status="401 Unauthorized", WWW_Authenticate=offer)


def test_token_is_fetched_and_used() -> None:
    """The password goes to who gives tokens, once, and asks for no more than reading."""
    with serving(guarded) as web:
        registry = client(web)
        assert read(registry) == FILE
        assert read(registry) == FILE
    tokens = [r for r in web.asked if r.path.startswith("/token")]
    assert len(tokens) == 1
    query = parse_qs(urlsplit(tokens[0].path).query)
    assert query == {
        "a": ["b"],
        "service": ["reg, istry"],
        "scope": ["repository:team/app:pull"],
    }
    assert all(r.headers.get("authorization") != BASIC for r in web.asked if r not in tokens)


@pytest.mark.parametrize("user", [None, Credentials(user="team", secret="x")])
def test_token_is_refused(user: Credentials | None) -> None:
    """Without the password there is no token, and no second try with the same."""
    with serving(guarded) as web, pytest.raises(DeniedError):
        read(client(web, user=user))
    assert len(web.asked) == 2


def test_identity_token_is_exchanged() -> None:
    """It goes in a body, where no log has it."""
    user = Credentials(user="", secret="long lived", is_identity_token=True)

    def answers(request: Request) -> bytes:
        if request.path.startswith("/token") and request.method == "POST":
            return answer(b'{"token":"abc"}')
        return guarded(request)

    with serving(answers) as web:
        assert read(client(web, user=user)) == FILE
    (asked,) = (r for r in web.asked if r.method == "POST")
    form = parse_qs(asked.body.decode())
    assert form["refresh_token"] == ["long lived"]
    assert form["grant_type"] == ["refresh_token"]


@pytest.mark.parametrize(
    "realm",
    [
        "file:///etc/shadow",
        "http://localhost:1/token",
        "http://169.254.169.254/latest",
        "https://user:x@example.com/",
        "/token",
        "",
    ],
)
def test_password_goes_nowhere_else(realm: str) -> None:
    """Who gives tokens is at the registry, or speaks TLS at a public address."""
    challenge = answer(status="401 Unauthorized", WWW_Authenticate=f'Bearer realm="{realm}"')
    with serving(lambda _: challenge) as web, pytest.raises(CorruptError):
        read(client(web))
    assert len(web.asked) == 1


@pytest.mark.parametrize("challenge", ["", "Negotiate", "Bearer", "Basically realm=x", "basic"])
def test_challenge_that_nobody_knows(challenge: str) -> None:
    """It is an error, not a reason to ask on."""
    denied = answer(status="401 Unauthorized", WWW_Authenticate=challenge)
    with serving(lambda _: denied) as web, pytest.raises(AppbError):
        read(client(web))
    assert len(web.asked) == 1


def test_challenges_are_taken_apart() -> None:
    """Several may be in one header; the names of schemes have no case."""
    header = 'basic realm="a, b", BEARER Realm="https://x/y?z=1", service=s'
    assert parse_challenges(header) == {
        "basic": {"realm": "a, b"},
        "bearer": {"realm": "https://x/y?z=1", "service": "s"},
    }


def test_blobs_may_be_in_a_store_elsewhere() -> None:
    """The store that is listed is asked without the registry's password, ranges included."""

    def store(request: Request) -> bytes:
        if request.headers.get("range") == "bytes=2-4":
            where = f"bytes 2-4/{len(FILE)}"
            return answer(FILE[2:5], status="206 Partial Content", Content_Range=where)
        return answer(FILE)

    with serving(store, host="localhost") as there:
        moved = answer(status="307 Temporary Redirect", Location=f"{there.url}/x?signature=y")

        def answers(request: Request) -> bytes:
            if request.headers.get("authorization") != BASIC:
                return answer(status="401 Unauthorized", WWW_Authenticate='Basic realm="x"')
            return instead("blobs", moved)(request)

        with serving(answers) as web:
            registry = client(web, hosts="localhost")
            assert read(registry) == FILE
            pieces = OciTransport(registry).read_stretches(
                TARGET, file_size=len(FILE), stretches=[Stretch(2, 3)]
            )
            assert b"".join(pieces) == FILE[2:5]
            with pytest.raises(CorruptError, match="not listed"):
                read(client(web))
    assert {r.path for r in there.asked} == {"/x?signature=y"}
    assert all("authorization" not in r.headers for r in there.asked)


class Losing:
    """A registry that keeps what has arrived of an upload, and whose answers get lost.

    Args:
        lost: The numbers of requests, of those that send something, that are not answered.
        taken: The part of their bodies that arrives.
    """

    def __init__(self, lost: set[int], taken: float) -> None:
        self.lost = lost
        self.taken = taken
        self.got = b""
        self.done = False
        self.sent = 0
        self.number = 0

    def __call__(self, request: Request) -> bytes:
        if request.method == "HEAD":
            return answer(status="200 OK" if self.done else "404 Not Found")
        if request.method == "POST":
            self.got = b""
            return answer(status="202 Accepted", Location="/v2/team/app/blobs/uploads/1?_s=0")
        if request.method == "GET":
            return self._at("204 No Content")
        return self._take(request)

    def _take(self, request: Request) -> bytes:
        self.number += 1
        start = int(re.findall(r"\d+", request.headers["content-range"])[0])
        if start != len(self.got):
            return answer(status="416 Range Not Satisfiable")
        self.sent += len(request.body)
        if self.number in self.lost:
            self.got += request.body[: int(len(request.body) * self.taken)]
            self.done = request.method == "PUT" and self.taken == 1
            return b""
        self.got += request.body
        if request.method == "PATCH":
            return self._at("202 Accepted")
        self.done = True
        return answer(status="201 Created")

    def _at(self, status: str) -> bytes:
        where = f"/v2/team/app/blobs/uploads/1?_s={len(self.got)}"
        return answer(status=status, Location=where, Range=f"0-{max(0, len(self.got) - 1)}")


@pytest.mark.parametrize("lost", [set(), {1}, {2}, {3}, {1, 2, 3}])
@pytest.mark.parametrize("taken", [0, 0.5, 1])
def test_upload_goes_on_where_it_was(
    lost: set[int], taken: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What has arrived is not sent again."""
    monkeypatch.setattr(registry_upload, "CHUNK_BYTES", 100)
    content = bytes(range(250))
    losing = Losing(lost, taken)
    with serving(losing) as web:
        upload(client(web), content)
    assert losing.got == content
    assert losing.done
    assert losing.sent <= len(content) + (1 - taken) * 100 * len(lost) + len(lost)


def upload(registry: Registry, content: bytes) -> None:
    """Give a registry a blob, without pauses."""
    upload_blob(
        registry,
        Digest(hashlib.sha256(content).hexdigest()),
        size=len(content),
        read=lambda offset, size: content[offset : offset + size],
        pause=lambda _: None,
    )


def test_uploads_stay_at_the_registry() -> None:
    """Neither content nor password follows an address to another server."""
    with serving(lambda _: answer(), host="localhost") as there:
        begun = answer(status="202 Accepted", Location=f"{there.url}/upload")
        with serving(lambda _: begun) as web:
            with pytest.raises(CorruptError, match="leads uploads"):
                upload(client(web, hosts="localhost"), FILE)
    assert there.asked == []


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        ("400 Bad Request", CorruptError),
        ("403 Forbidden", DeniedError),
        ("429 Too Many Requests", UnreachableError),
        ("503 Service Unavailable", UnreachableError),
    ],
)
def test_registrys_own_words_are_shown(status: str, kind: type[AppbError]) -> None:
    """What it says is shown, escaped."""
    body = msgspec.json.encode({"errors": [{"code": "X", "message": "no \x1b[31m"}]})
    with serving(lambda _: answer(body, status=status)) as web:
        with pytest.raises(kind) as caught:
            read(client(web))
    if kind is not DeniedError:
        assert r"no \x1b[31m" in caught.value.what
