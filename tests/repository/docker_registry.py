"""A real registry on a free port of the loopback."""

import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import bcrypt
import pytest

from appbundle.repository.registry.api import Registry, parse_address
from appbundle.repository.registry.docker_config import Credentials

_PROGRAM = shutil.which("docker-registry")
needs_registry = pytest.mark.skipif(_PROGRAM is None, reason="docker-registry is not installed")

USER = Credentials(user="team", secret="let me: in")

_CONFIGURATION = """
version: 0.1
storage: {{filesystem: {{rootdirectory: {directory}/data}}}}
http: {{addr: "127.0.0.1:0", secret: test{tls}}}
{auth}
"""
_LISTENING = re.compile(r"listening on 127\.0\.0\.1:(\d+)")


@dataclass(frozen=True, slots=True)
class DockerRegistry:
    """A registry that runs.

    Args:
        directory: Its configuration and data.
        port: Where it listens.
    """

    directory: Path
    port: int

    def open(
        self, path: str, *, may_push: bool = True, user: Credentials | None = USER
    ) -> Registry:
        """A client for one repository of it."""
        address = parse_address(f"oci+http://127.0.0.1:{self.port}/{path}")
        return Registry(address, find_credentials=lambda _: user, may_push=may_push)

    def repository(self, path: str) -> Path:
        """Where it keeps what it knows of a repository, apart from the blobs."""
        return self.directory / "data/docker/registry/v2/repositories" / path

    def blobs(self) -> set[str]:
        """The digests of what it keeps."""
        blobs = self.directory / "data/docker/registry/v2/blobs/sha256"
        return {each.parent.name for each in blobs.glob("*/*/data")}

    def collect_garbage(self) -> None:
        """Remove what no manifest names, and manifests without a tag."""
        assert _PROGRAM is not None
        command = [_PROGRAM, "garbage-collect", "-m", str(self.directory / "config.yml")]
        subprocess.run(command, check=True, capture_output=True)


def htpasswd(path: Path, user: Credentials = USER) -> str:
    """Write a file of passwords, and give the configuration that makes a registry ask for one."""
    hashed = bcrypt.hashpw(user.secret.encode(), bcrypt.gensalt(4, prefix=b"2a"))
    path.write_bytes(user.user.encode() + b":" + hashed + b"\n")
    return f"auth: {{htpasswd: {{realm: test, path: {path}}}}}"


@contextmanager
def docker_registry(
    directory: Path, *, auth: str = "", certificate: Path | None = None
) -> Iterator[DockerRegistry]:
    """Run a registry.

    Args:
        directory: For all that it has.
        auth: Of its configuration.
        certificate: With its key, for TLS; none for no TLS.
    """
    assert _PROGRAM is not None
    configuration = directory / "config.yml"
    tls = f", tls: {{certificate: {certificate}, key: {certificate}}}" if certificate else ""
    configuration.write_text(_CONFIGURATION.format(directory=directory, auth=auth, tls=tls))
    process = subprocess.Popen(
        [_PROGRAM, "serve", str(configuration)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    with process.stderr as log:
        try:
            port = next(int(found[1]) for line in log if (found := _LISTENING.search(line)))
            # It goes on writing there, and must not wait for anybody to read it.
            reader = threading.Thread(target=log.read, daemon=True)
            reader.start()
            yield DockerRegistry(directory, port)
        finally:
            process.terminate()
            process.wait()
            reader.join()
