"""What the command line says of apps from repositories, before they are fetched and meanwhile."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.test_json import PROMISES, differences, parse
from tests.crash.support import Node, run_cli
from tests.repository.publisher import Publisher, use

Bundle = Callable[[str, int], Path]


@pytest.fixture
def site(node: Node, bundle: Bundle, tmp_path: Path) -> Node:
    """A node with hello 1.0 from a repository that has hello 2.0 by now."""
    publisher = Publisher(tmp_path)
    publisher.publish(bundle("hello", 1))
    use(node.layout, publisher.folder.path)
    assert run_cli(node, "install", "hello").status == 0
    publisher.publish(bundle("hello", 2))
    return node


def test_events_say_how_far_a_download_is(site: Node) -> None:
    """With --json each line on stderr is an event, the last of them at the end of all bytes."""
    said = run_cli(site, "--json", "upgrade")
    events = [json.loads(line) for line in said.stderr.splitlines()]
    assert {each["event"] for each in events} == {"fetching"}
    last = events[-1]
    assert last["what"] == "fetching hello 2.0"
    assert last["done_bytes"] == last["total_bytes"] > 0
    assert last["saved_bytes"] > 0
    assert said.document["saved_bytes"] == last["saved_bytes"]


def test_quiet_means_no_events(site: Node) -> None:
    """-q keeps stderr empty."""
    assert run_cli(site, "-q", "--json", "upgrade").stderr == ""


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("outdated", "outdated"),
        ("info", "info hello@2.0"),
        ("install", "install --dry-run hello"),
        ("upgrade", "upgrade --dry-run"),
    ],
)
def test_documents_have_the_promised_keys(site: Node, row: str, words: str) -> None:
    """Where there is something to say, each document has all the keys of its row."""
    found = run_cli(site, "--json", *words.split()).document
    assert differences(found, parse(PROMISES[row])) == []


def test_held_app_is_told(site: Node) -> None:
    """Whoever asks what is outdated is told why an app is not upgraded."""
    run_cli(site, "hold", "hello", "--reason", "waits")
    assert "held: waits" in run_cli(site, "outdated").stdout
    said = run_cli(site, "upgrade")
    assert (said.stdout, said.stderr) == ("nothing to upgrade\n", "hello is held: waits\n")
    refused = run_cli(site, "--json", "upgrade", "hello")
    assert (refused.status, refused.document["error"]["kind"]) == (1, "conflict")


def test_hold_that_is_over_is_refused(site: Node) -> None:
    """A time that is over holds nothing."""
    said = run_cli(site, "hold", "hello", "--reason", "x", "--until", "2001-01-01")
    assert said.status == 2
