"""A repository in a real registry: pushed, read, collected, broken off."""

import hashlib
import random
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from appbundle.errors import (
    AppbError,
    ConflictError,
    CorruptError,
    DeniedError,
    NotFoundError,
    UnreachableError,
    UsageError,
)
from appbundle.names import Digest
from appbundle.repository.registry import upload as registry_upload
from appbundle.repository.registry.api import Registry, parse_address
from appbundle.repository.registry.docker_config import Credentials
from appbundle.repository.registry.push import Pushed, push
from appbundle.repository.registry.transport import OciTransport
from appbundle.repository.registry.upload import has_blob, upload_blob, upload_bytes
from appbundle.repository.transports.http_client import Response
from appbundle.repository.transports.transport import Stretch
from tests.crash.support import memory_directory
from tests.repository.certificate import self_signed
from tests.repository.cutting import cutting
from tests.repository.docker_registry import (
    USER,
    DockerRegistry,
    docker_registry,
    htpasswd,
    needs_registry,
)
from tests.repository.publisher import Publisher, Reader
from tests.repository.web import answer, serving

pytestmark = needs_registry

Bundle = Callable[[str, int], Path]


@pytest.fixture(scope="module")
def server() -> Iterator[DockerRegistry]:
    """A registry that asks for a password."""
    with memory_directory() as directory:
        with docker_registry(directory, auth=htpasswd(directory / "passwords")) as running:
            yield running


@pytest.fixture
def repo(memory: Path, bundle: Bundle) -> Publisher:
    """A folder with one release."""
    publisher = Publisher(memory)
    publisher.publish(bundle("hello", 1))
    return publisher


def versions(registry: Registry, repo: Publisher, cache: str) -> list[str]:
    """The versions of hello that a reader can fetch whole."""
    reader = Reader(repo.folder.path, repo.base / cache, OciTransport(registry))
    return reader.versions("hello")


def test_pushed_repository_is_read(server: DockerRegistry, repo: Publisher, bundle: Bundle) -> None:
    """A TUF client finds in the registry what it would find in the folder; a push adds to it."""
    registry = server.open("team/read")
    first = push(repo.folder.path, registry)
    assert (first.files, first.version) == (2, 1)
    reading = server.open("team/read", may_push=False)
    assert versions(reading, repo, "cache") == ["1.0"]
    repo.publish(bundle("hello", 2))
    assert versions(reading, repo, "cache") == ["1.0"]
    push(repo.folder.path, registry)
    assert versions(reading, repo, "cache") == ["1.0", "2.0"]


class Counting(Registry):
    """Counts requests that change something; may end everything before one of them."""

    writes = 0
    dies_at = 0

    def ask(self, method: str, url: str, **more: object) -> Response:
        if method not in ("GET", "HEAD"):
            self.writes += 1
            if self.writes == self.dies_at:
                raise KeyboardInterrupt
        return super().ask(method, url, **more)  # type: ignore[arg-type]


def counting(server: DockerRegistry, path: str, *, dies_at: int = 0) -> Counting:
    """A client that counts."""
    known = server.open(path)
    made = Counting(known.address, find_credentials=lambda _: USER, may_push=True)
    made.dies_at = dies_at
    return made


def test_only_what_is_missing_goes_up(
    server: DockerRegistry, repo: Publisher, bundle: Bundle
) -> None:
    """What was pushed before is neither sent nor asked for again, unless everything is wanted."""
    first = counting(server, "team/missing")
    push(repo.folder.path, first)
    again = counting(server, "team/missing")
    assert push(repo.folder.path, again) == Pushed(version=1)
    # The snapshot's and the timestamp's tags are set to what they were.
    assert again.writes == 2
    repo.publish(bundle("other", 1))
    more = counting(server, "team/missing")
    # A bundle and the catalog.
    assert push(repo.folder.path, more).files == 2
    assert more.writes < first.writes
    assert push(repo.folder.path, server.open("team/missing"), everything=True).files == 0


def test_garbage_collection_keeps_everything(
    server: DockerRegistry, repo: Publisher, bundle: Bundle
) -> None:
    """Manifests name all that readers need, so a registry throws none of it away."""
    registry = server.open("team/kept")
    push(repo.folder.path, registry)
    repo.publish(bundle("hello", 2))
    push(repo.folder.path, registry)
    loose = upload_bytes(registry, b"named by nothing")
    assert loose in server.blobs()
    server.collect_garbage()
    assert loose not in server.blobs()
    assert versions(registry, repo, "cache") == ["1.0", "2.0"]


def test_interrupted_push_leaves_old_or_new(
    server: DockerRegistry, repo: Publisher, bundle: Bundle
) -> None:
    """Before each request that changes something it may end; the next push finishes."""
    old, new = ["1.0"], ["1.0", "2.0"]
    push(repo.folder.path, server.open("team/start"))
    repo.publish(bundle("hello", 2))
    seen, dies_at, finished = [], 1, False
    while not finished:
        path = f"team/died{dies_at}"
        copy(server, "team/start", path)
        registry = counting(server, path, dies_at=dies_at)
        try:
            push(repo.folder.path, registry)
            finished = True
        except KeyboardInterrupt:
            seen.append(versions(server.open(path), repo, f"cache{dies_at}"))
            push(repo.folder.path, server.open(path))
        assert versions(server.open(path), repo, f"cache{dies_at}") == new
        dies_at += 1
    assert seen == [old] * seen.count(old) + [new] * seen.count(new)
    assert seen.count(old) > 15


def copy(server: DockerRegistry, path: str, to: str) -> None:
    """Give another repository what one has."""
    shutil.copytree(server.repository(path), server.repository(to))


def test_another_repository_is_not_overwritten(
    server: DockerRegistry, repo: Publisher, bundle: Bundle, memory: Path
) -> None:
    """One path has one repository; neither it nor an older state of it replaces what is there."""
    registry = server.open("team/taken")
    push(repo.folder.path, registry)
    (memory / "b").mkdir()
    other = Publisher(memory / "b")
    other.publish(bundle("hello", 2))
    with pytest.raises(ConflictError, match="another repository"):
        push(other.folder.path, registry)
    before = repo.folder.timestamp.read_bytes()
    repo.publish(bundle("hello", 2))
    push(repo.folder.path, registry)
    repo.folder.timestamp.write_bytes(before)
    with pytest.raises(ConflictError, match="has state 2"):
        push(repo.folder.path, registry)
    assert versions(registry, repo, "cache") == ["1.0", "2.0"]


def test_damaged_folder_is_not_pushed(server: DockerRegistry, repo: Publisher) -> None:
    """A target that is not what its role says reaches nobody: the registry compares too."""
    (bundle,) = (repo.folder.targets / "hello").iterdir()
    raw = bytearray(bundle.read_bytes())
    raw[-1] ^= 1
    bundle.write_bytes(raw)
    with pytest.raises(CorruptError, match="digest"):
        push(repo.folder.path, server.open("team/damaged"))
    bundle.write_bytes(raw[:-1])
    with pytest.raises(CorruptError, match="does not have the"):
        push(repo.folder.path, server.open("team/damaged"))
    bundle.unlink()
    with pytest.raises(CorruptError, match="missing"):
        push(repo.folder.path, server.open("team/damaged"))
    with pytest.raises(NotFoundError):
        server.open("team/damaged").read_manifest("metadata-timestamp")
    with pytest.raises(NotFoundError, match="no repository"):
        push(repo.base, server.open("team/damaged"))


CONTENT = random.Random(1).randbytes(3_000_000)
DIGEST = Digest(hashlib.sha256(CONTENT).hexdigest())


def upload(registry: Registry, content: bytes) -> Digest:
    """Give a registry a blob, without pauses."""
    digest = Digest(hashlib.sha256(content).hexdigest())
    upload_blob(
        registry,
        digest,
        size=len(content),
        read=lambda offset, size: content[offset : offset + size],
        pause=lambda _: None,
    )
    return digest


class Watching(Registry):
    """Notes what was asked of blobs, and the answers' statuses."""

    def __init__(self, known: Registry) -> None:
        super().__init__(known.address, find_credentials=lambda _: USER)
        self.asked: list[tuple[str, int]] = []

    def open_blob(self, digest: Digest, *, headers: Mapping[str, str] | None = None) -> Response:
        response = super().open_blob(digest, headers=headers)
        self.asked.append(((headers or {}).get("Range", ""), response.status))
        return response


def test_parts_of_bundles_are_read(server: DockerRegistry) -> None:
    """Only the ranges that are wanted are asked for, and the registry gives only them."""
    registry = server.open("team/parts")
    upload(registry, CONTENT)
    watching = Watching(registry)
    wanted = [Stretch(1, 10), Stretch(1_000_000, 500_000)]
    pieces = OciTransport(watching).read_stretches(
        f"targets/hello/{DIGEST}.hello-1.0.bundle", file_size=len(CONTENT), stretches=wanted
    )
    assert b"".join(pieces) == b"".join(CONTENT[each.start : each.end] for each in wanted)
    assert sorted(watching.asked) == [("bytes=1-10", 206), ("bytes=1000000-1499999", 206)]


@pytest.mark.parametrize("size", [0, 1, 2, 65_536, 65_537, 300_000])
def test_chunks_make_up_the_blob(
    server: DockerRegistry, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the size, what arrives is what was sent."""
    monkeypatch.setattr(registry_upload, "CHUNK_BYTES", 65_536)
    registry = server.open("team/chunks")
    digest = upload_bytes(registry, CONTENT[:size])
    assert registry.read_blob(digest, limit=size) == CONTENT[:size]


@pytest.mark.parametrize("breaks", [[1_000], [40_000], [100_000] * 4, [170_000, 500, 500]])
def test_upload_that_breaks_off_is_finished(
    server: DockerRegistry, breaks: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever connections end, what the registry has at the end is what was sent."""
    monkeypatch.setattr(registry_upload, "CHUNK_BYTES", 65_536)
    content = random.Random(str(breaks)).randbytes(400_000)
    with cutting(server.port, breaks) as proxy:
        address = parse_address(f"oci+http://127.0.0.1:{proxy.port}/team/breaks")
        registry = Registry(address, find_credentials=lambda _: USER, may_push=True)
        digest = upload(registry, content)
    assert proxy.cuts == len(breaks)
    assert server.open("team/breaks").read_blob(digest, limit=len(content)) == content


def test_upload_that_always_breaks_off_ends(server: DockerRegistry) -> None:
    """It is given up, and the registry has nothing of that name."""
    with cutting(server.port, [3_000] * 100) as proxy:
        address = parse_address(f"oci+http://127.0.0.1:{proxy.port}/team/never")
        registry = Registry(address, find_credentials=lambda _: USER, may_push=True)
        with pytest.raises(UnreachableError):
            upload(registry, CONTENT)
    assert not has_blob(server.open("team/never"), DIGEST)


@pytest.mark.parametrize("user", [None, Credentials(user="team", secret="wrong")])
def test_who_is_not_let_in_is_told(server: DockerRegistry, user: Credentials | None) -> None:
    """No credentials, or wrong ones: the hint says where they are taken from."""
    with pytest.raises(DeniedError, match="denies") as caught:
        server.open("team/denied", user=user).read_manifest("metadata-timestamp")
    assert "docker login" in caught.value.hint


def test_registry_without_passwords(memory: Path, repo: Publisher) -> None:
    """Nothing is asked for where nothing is wanted."""
    (memory / "open").mkdir()
    with docker_registry(memory / "open") as server:
        registry = server.open("hello", user=None)
        push(repo.folder.path, registry)
        assert versions(registry, repo, "cache") == ["1.0"]
        with pytest.raises(NotFoundError):
            OciTransport(registry).read("metadata/2.root.json", limit=1000)
        with pytest.raises(CorruptError, match="more than"):
            OciTransport(registry).read("metadata/1.root.json", limit=10)


def test_registry_with_tls(memory: Path, repo: Publisher, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is spoken to if somebody vouches for its certificate.

    Another one, inside as well, may keep its blobs there.
    """
    certificate = memory / "certificate.pem"
    certificate.write_bytes(self_signed())
    (memory / "secure").mkdir()
    with docker_registry(memory / "secure", certificate=certificate) as server:

        def client(url: str) -> Registry:
            return Registry(parse_address(url), find_credentials=lambda _: None, may_push=True)

        secure = f"//localhost:{server.port}/hello"
        with pytest.raises(UnreachableError, match="certificate"):
            client(f"oci:{secure}").read_manifest("metadata-timestamp")
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        registry = client(f"oci:{secure}")
        push(repo.folder.path, registry)
        assert versions(registry, repo, "cache") == ["1.0"]
        there = f"https://localhost:{server.port}"
        with serving(lambda r: answer(status="307 Moved", Location=there + r.path)) as web:
            moved = client(f"oci+http://127.0.0.1:{web.port}/hello")
            assert versions(moved, repo, "other") == ["1.0"]


@pytest.mark.parametrize(
    "url",
    [
        "oci://",
        "oci://host",
        "oci://host/",
        "oci://host/Path",
        "oci://host/a//b",
        "oci://host/../b",
        "oci://user@host/a",
        "oci://user:secret@host/a",
        "oci://host/a?b",
        "oci://host/a#b",
        "oci://host:port/a",
        "oci+ftp://host/a",
        "oci://host/" + "a" * 256,
    ],
)
def test_address_that_is_none(url: str) -> None:
    """What registries do not take is refused before anybody is asked."""
    with pytest.raises(UsageError):
        parse_address(url)


def test_address_says_whether_there_is_encryption() -> None:
    """Nothing goes without TLS unless the address says so."""
    assert parse_address("oci://host/a/b").api == "https://host/v2/a/b"
    assert parse_address("oci+http://[::1]:5000/a").api == "http://[::1]:5000/v2/a"
    assert parse_address("oci://docker.io/a/b").api == "https://registry-1.docker.io/v2/a/b"


def test_other_files_are_not_there(server: DockerRegistry) -> None:
    """Only metadata have tags, and only targets have digests in their names."""
    transport = OciTransport(server.open("team/none"))
    for path in ("a", "metadata/a b.json", "targets/hello/1.bundle"):
        with pytest.raises(AppbError):
            transport.read(path, limit=1)
