"""One booted node for all tests of services; each starts with an empty one."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from appbundle.bundle.services import Service
from tests.crash.support import KEY
from tests.services import apps
from tests.services.booted import Booted, Said, booted, why_not


@dataclass(frozen=True, slots=True)
class Fleet:
    """A booted node and a way to make bundles for it."""

    node: Booted
    program: Path

    def bundle(self, *services: Service, **how: object) -> Path:
        """Make a bundle that the node can read."""
        return apps.bundle(self.node.scratch, self.program, *services, **how)  # type: ignore[arg-type]

    def install(self, *services: Service, check: bool = True, **how: object) -> Said:
        """Make a bundle and install it."""
        return self.node.appb("--json", "install", str(self.bundle(*services, **how)), check=check)

    def get(self, port: int = 8081) -> str:
        """What the server answers, in the node."""
        said = self.node.run("curl", "-s", "--max-time", "5", f"http://127.0.0.1:{port}/")
        return said.stdout.strip()


@pytest.fixture(scope="session")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Boot a systemd once."""
    if reason := why_not():
        pytest.skip(reason)
    program = apps.compile_server(tmp_path_factory.mktemp("server"))
    with booted() as node:
        key = node.scratch / "team.pub"
        key.write_text(f"{KEY.public.line}\n")
        yield Fleet(node, program)


@pytest.fixture
def fleet(machine: Fleet) -> Iterator[Fleet]:
    """The booted node, trusting the tests' key, with nothing on it."""
    machine.node.appb("trust", "add", str(machine.node.scratch / "team.pub"), check=False)
    yield machine
    machine.node.reset()
