"""The commands for services on a booted systemd: their documents, as docs/json.md promises."""

import pytest

from tests.cli.test_json import PROMISES, SERVED, differences, parse
from tests.services.conftest import Fleet

pytestmark = [pytest.mark.root, pytest.mark.slow]

COMMANDS = {
    "status": "status",
    "audit": "audit",
    "start": "start web",
    "stop": "stop web/web",
    "restart": "restart web",
    "switch --confirm": "switch --confirm",
    "switch --resume": "switch --resume",
    "upgrade --schedule": "upgrade --schedule daily --window 1h",
    "upgrade --unschedule": "upgrade --unschedule",
}


def test_every_command_is_tried() -> None:
    """Each row that test_json leaves to this file is here."""
    assert COMMANDS.keys() == SERVED


def test_documents_have_the_promised_keys(fleet: Fleet) -> None:
    """Each document has exactly the keys of its row."""
    fleet.install()
    fleet.node.appb("install", "--no-switch", str(fleet.bundle(version="2.0", release=2)))
    fleet.node.appb("switch", "web@2.0", "--confirm-within", "1h")
    for row, words in COMMANDS.items():
        # Limits may have no controller here, which `audit` says with its exit code.
        said = fleet.node.appb("--json", *words.split(), check=row != "audit")
        assert differences(said.document, parse(PROMISES[row])) == [], row
