"""A repository's files from a real web server."""

import random
from pathlib import Path

import pytest

from appbundle.errors import CorruptError, NotFoundError, UnreachableError
from appbundle.repository.open import open_transport
from appbundle.repository.transports import ranges
from appbundle.repository.transports.transport import Stretch
from tests.repository.certificate import self_signed
from tests.repository.nginx import needs_nginx, nginx

pytestmark = needs_nginx

CONTENT = random.Random(1).randbytes(1_000_000)
WANTED = (Stretch(5, 400_000), Stretch(500_000, 1), Stretch(600_000, 400_000))
EXPECTED = b"".join(CONTENT[each.start : each.end] for each in WANTED)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a file."""
    (tmp_path / "a+b.bundle").write_bytes(CONTENT)
    return tmp_path


def read(url: str) -> bytes:
    """Read parts of the file."""
    transport = open_transport(url)
    pieces = transport.read_stretches("a+b.bundle", file_size=len(CONTENT), stretches=WANTED)
    return b"".join(pieces)


def test_ranges_are_asked_for_on_few_connections(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only wanted bytes are sent, and connections are used again."""
    monkeypatch.setattr(ranges, "_PART_BYTES", 50_000)
    with nginx(folder) as server:
        assert read(server.url) == EXPECTED
    asked = server.asked
    assert {each.status for each in asked} == {206}
    assert sum(each.sent_bytes for each in asked) == len(EXPECTED)
    assert len({each.connection for each in asked}) <= 4 < len(asked)


def test_server_without_ranges(folder: Path) -> None:
    """The file is read once, as a stream."""
    with nginx(folder, server="max_ranges 0;") as server:
        assert read(server.url) == EXPECTED
    assert [each.status for each in server.asked] == [200]


def test_small_files(folder: Path) -> None:
    """A file is read whole if it is no longer than it may be."""
    with nginx(folder) as server:
        transport = open_transport(f"{server.url}/")
        assert transport.read("a+b.bundle", limit=len(CONTENT)) == CONTENT
        with pytest.raises(CorruptError):
            transport.read("a+b.bundle", limit=len(CONTENT) - 1)
        with pytest.raises(NotFoundError):
            transport.read("c", limit=1)


def test_redirect_to_a_host_that_is_not_listed(folder: Path) -> None:
    """A server sends nobody elsewhere unless its administrator has listed where."""
    with nginx(folder) as there:
        moved = f"return 302 http://localhost:{there.port}$request_uri;"
        with nginx(folder, server=moved) as here:
            with pytest.raises(CorruptError, match="not listed"):
                read(here.url)
            listed = open_transport(here.url, redirect_hosts=["localhost"])
            assert listed.read("a+b.bundle", limit=len(CONTENT)) == CONTENT
    assert len(there.asked) == 1


def test_certificate_that_nobody_vouches_for(folder: Path, tmp_path: Path) -> None:
    """A server with a certificate of its own making is not spoken to."""
    made = tmp_path / "server.pem"
    made.write_bytes(self_signed())
    tls = f"ssl_certificate {made}; ssl_certificate_key {made};"
    with nginx(folder, server=tls, tls=True) as server, pytest.raises(UnreachableError):
        open_transport(server.url.replace("http:", "https:")).read("a+b.bundle", limit=1)
    assert server.asked == []
