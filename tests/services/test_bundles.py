"""The cheap ones of the bundles in `bundles/`, built from real packages, at work under systemd."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.services.conftest import Fleet

REPOSITORY = Path(__file__).resolve().parents[2]

pytestmark = [pytest.mark.root, pytest.mark.network, pytest.mark.slow]

ASK_MEMCACHED = """
import socket
with socket.create_connection(("127.0.0.1", 11211), timeout=5) as memcached:
    memcached.sendall(b"set key 0 0 5\\r\\nvalue\\r\\nget key\\r\\nquit\\r\\n")
    with memcached.makefile("rb") as answers:
        print(answers.read().split())
"""


def build(app: str, target: Path, *more: str, cache: Path) -> bytes:
    """Build a bundle of the project; gives its bytes."""
    subprocess.run(
        [
            *(sys.executable, "-m", "appbundle", "build", str(REPOSITORY / "bundles" / app)),
            *("-o", str(target), "--level", "1", "--cache", str(cache), *more),
        ],
        env={**os.environ, "SOURCE_DATE_EPOCH": "1700000000", "PYTHONPATH": str(REPOSITORY)},
        check=True,
        timeout=600,
    )
    return target.read_bytes()


@pytest.fixture(scope="module")
def built(fleets: Callable[[str], Fleet], tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Bundles of nginx and memcached, where the node sees them; each was built twice, equally."""
    if not shutil.which("mmdebstrap"):
        pytest.skip("needs mmdebstrap")
    node = fleets("").node
    cache, again = tmp_path_factory.mktemp("cache"), tmp_path_factory.mktemp("again")
    key = node.scratch / "builder.key"
    node.appb("key", "new", "--no-passphrase", str(key))
    found = []
    for app in ("nginx", "memcached"):
        target = node.scratch / f"{app}.bundle"
        first = build(app, target, "--key", str(key), cache=cache)
        assert build(app, again / app, "--key", str(key), cache=cache) == first
        found.append(target)
    return found


def test_they_do_their_work_with_defaults(built: list[Path], fleet: Fleet) -> None:
    """Both become healthy unconfigured, within their confinement: memcached keeps what it is given,
    nginx answers; told whom it is in front of, it passes requests on, and reloads for that."""
    node = fleet.node
    # Debian's own, if this machine has them.
    node.run(
        "sh", "-c", "rm -f /usr/lib/systemd/system/nginx.* /usr/lib/systemd/system/memcached.*"
    )
    node.systemctl("daemon-reload")
    node.appb("trust", "add", str(node.scratch / "builder.key.pub"))
    node.appb("install", *map(str, built))
    asked = node.run(sys.executable, "-c", ASK_MEMCACHED, check=True).stdout
    assert asked.strip() == "[b'STORED', b'VALUE', b'key', b'0', b'5', b'value', b'END']"
    assert "nothing is served here yet" in fleet.get(8080)
    process = node.show("nginx.service", "MainPID")
    node.appb("set", "nginx", "routes=/there=127.0.0.1:8080/nowhere")
    said = node.run("curl", "-s", "http://127.0.0.1:8080/there/any")
    assert "nothing is served here yet" in said.stdout
    assert node.show("nginx.service", "MainPID") == process
