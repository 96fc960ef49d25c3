"""One booted node for all tests of services; each starts with an empty one."""

import contextlib
import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from appbundle.bundle.services import Service
from tests.crash.support import KEY
from tests.services import apps, trees
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


on_every_systemd = pytest.mark.parametrize(
    "fleet", ["", pytest.param("trixie", marks=pytest.mark.network)], indirect=True
)
"""Runs a test on Debian 13's systemd, too."""


@pytest.fixture(scope="session")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tests' server."""
    return apps.compile_server(tmp_path_factory.mktemp("server"))


@pytest.fixture(scope="session")
def fleets(program: Path) -> Iterator[Callable[[str], Fleet]]:
    """Give a booted node by the suite of its Debian, empty for this machine's own files."""
    if reason := why_not():
        pytest.skip(reason)
    with contextlib.ExitStack() as stack:

        @functools.cache
        def boot(suite: str) -> Fleet:
            how = booted(tree=trees.trixie(), python="/usr/bin/python3") if suite else booted()
            node = stack.enter_context(how)
            (node.scratch / "team.pub").write_text(f"{KEY.public.line}\n")
            return Fleet(node, program)

        yield boot


@pytest.fixture
def fleet(fleets: Callable[[str], Fleet], request: pytest.FixtureRequest) -> Iterator[Fleet]:
    """A booted node, trusting the tests' key, with nothing on it."""
    found = fleets(getattr(request, "param", ""))
    found.node.appb("trust", "add", str(found.node.scratch / "team.pub"), check=False)
    yield found
    found.node.reset()
