"""The embedded supervisor of a live node: what happens without anybody's `appb supervise`."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.crash.support import KEY
from tests.services import apps
from tests.services.test_embedded import free_port

pytestmark = pytest.mark.root

# This machine's files in a place of their own, with processes of their own: when the first of them
# ends, the kernel ends all others and takes the mounts away.
_SETUP = """
set -e
mount -t tmpfs -o mode=0755 tmpfs "$1"
mkdir "$1/upper" "$1/work" "$1/root"
mount -t overlay -o "lowerdir=/,upperdir=$1/upper,workdir=$1/work" overlay "$1/root"
cd "$1/root"
rm -rf apps var/lib/appb etc/appbundle
for each in proc run; do mount -t tmpfs -o mode=0755 tmpfs $each; done
mount -t proc proc proc
mount --rbind /dev dev
mount --rbind /sys sys
mkdir -p mnt/given
mount --bind "$2" mnt/given
exec chroot . /bin/sh -c "$3"
"""


@dataclass(frozen=True, slots=True)
class Live:
    """A live node without systemd.

    Args:
        given: A directory that it sees as /mnt/given.
        port: Of the bundle's service.
    """

    place: Path
    given: Path
    port: int

    def run(self, script: str) -> str:
        """Run a shell script as process 1 of the node; gives what it prints."""
        appb = f'appb() {{ {sys.executable} -m appbundle "$@"; }}'
        whole = f"set -e\n{appb}\nappb trust add /mnt/given/team.pub >&2\n{script}"
        unshare = ("unshare", "--mount", "--pid", "--fork", "--kill-child")
        done = subprocess.run(
            [*unshare, "sh", "-c", _SETUP, "sh", str(self.place), str(self.given), whole],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done
        return done.stdout


@pytest.fixture
def live(tmp_path: Path) -> Live:
    """A node with a bundle at hand, whose key it trusts."""
    place, given, port = tmp_path / "place", tmp_path / "given", free_port()
    place.mkdir()
    given.mkdir()
    (given / "team.pub").write_text(f"{KEY.public.line}\n")
    apps.bundle(given, apps.compile_server(tmp_path), apps.web(port=port))
    return Live(place, given, port)


def test_first_service_starts_the_supervisor(live: Live) -> None:
    """Where nobody supervises, installing a service starts a supervisor that outlives appb."""
    said = live.run(
        f"""
        appb install /mnt/given/web-1.0.bundle >&2
        curl -s http://127.0.0.1:{live.port}/
        appb stop web >&2
        curl -s http://127.0.0.1:{live.port}/ || echo stopped
        """
    )
    assert said.split() == ["web", "1.0", "stopped"]


def test_nothing_starts_if_nobody_shall(live: Live) -> None:
    """With `manager = "none"` services are installed, and nothing is started."""
    said = live.run(
        """
        printf '[services]\\nmanager = "none"\\n' > /etc/appbundle/node.toml
        appb install /mnt/given/web-1.0.bundle
        ls /run
        """
    )
    assert "generation 1 is current" in said
    assert "appb" not in said.split()
