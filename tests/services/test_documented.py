"""Examples of the documentation that need running services, on a booted systemd."""

import sys
from pathlib import Path

import pytest

from tests.docs import console
from tests.docs.test_help import examples, is_serving
from tests.docs.test_pages import EVERY
from tests.services.apps import web
from tests.services.conftest import Fleet

pytestmark = [pytest.mark.root, pytest.mark.slow]


def documented() -> list[str]:
    """Every command line of a block that is marked so, and of --help."""
    found = dict.fromkeys(each for each in examples() if is_serving(each))
    for page in EVERY:
        for block in console.blocks(page.read_text()):
            if block.mark == "booted":
                found |= dict.fromkeys(each.text for each in console.commands(block))
    return list(found)


def test_documented_commands_work(fleet: Fleet) -> None:
    """Each of them does its work on a node whose nova-api was upgraded."""
    service = web("nova-api")
    fleet.install(service, name="nova-api", version="34.0.0", release=1)
    fleet.install(service, name="nova-api", version="33.0.2", release=2)
    path = f"PATH={Path(sys.executable).parent}:$PATH"
    for command in documented():
        # What follows a log for ever has shown enough after a second; limits may have no
        # controller here, which `audit` says with its exit code.
        words = f"timeout 1 {command} || true" if " -f " in command else command
        words += " || true" if command.startswith("appb audit") else ""
        said = fleet.node.run("bash", "-c", f"{path}; cd /; {words}")
        assert said.status == 0, (command, said)
