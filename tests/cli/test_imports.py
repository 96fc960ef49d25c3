"""Commands that must start fast load nothing that they do not use."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.crash.support import Node

Bundle = Callable[[str, int], Path]

DRAWING = {"rich"}
REPOSITORIES = {"tuf", "securesystemslib", "urllib3", "requests"}
BUILDING = {"cyclonedx", "elftools", "jinja2"}
TRUST = {"cryptography", "bcrypt", "appbundle.trust"}
BUNDLES = {"zstandard", "msgspec", "tomllib", "appbundle.bundle"}
PROCESSES = {"subprocess", "asyncio", "multiprocessing", "concurrent.futures"}

NEVER = DRAWING | REPOSITORIES | BUILDING
FAST = NEVER | TRUST | BUNDLES | PROCESSES

CODE = """
import json, sys
from appbundle.__main__ import main
status = main()
print(json.dumps([status, sorted(sys.modules)]), file=sys.stderr)
"""


def loaded_by(node: Node, words: str, **variables: str) -> set[str]:
    """The modules that a successful command has loaded when it ends."""
    done = subprocess.run(
        [sys.executable, "-c", CODE, "--root", str(node.root), *words.split()],
        capture_output=True,
        text=True,
        env=os.environ | variables,
    )
    status, modules = json.loads(done.stderr.splitlines()[-1])
    assert status == 0, done.stderr
    return set(modules)


@pytest.fixture
def used(node: Node, bundle: Bundle) -> Node:
    """A node with two versions."""
    for number in (1, 2):
        node.install(bundle("hello", number))
    return node


@pytest.mark.parametrize(
    ("words", "unwanted"),
    [
        ("--help", FAST),
        ("--version", FAST),
        ("list", FAST),
        ("--json list", FAST),
        ("history", FAST),
        ("switch --previous", FAST),
        ("switch --previous hello", FAST),
        ("switch hello@1.0", FAST),
        ("switch --to 1 --dry-run", FAST),
        ("switch --help", FAST),
        ("install --help", NEVER | {"cryptography"}),
        ("info hello", NEVER | {"cryptography"}),
        ("diff 1 2", NEVER | {"cryptography"}),
        ("gc -n", NEVER | {"cryptography"}),
        ("verify", NEVER),
        ("install -n BUNDLE", NEVER),
    ],
)
def test_command_loads_no_more_than_it_needs(
    used: Node, bundle: Bundle, words: str, unwanted: set[str]
) -> None:
    """None of these modules is there when the command has done its work."""
    found = loaded_by(used, words.replace("BUNDLE", str(bundle("hello", 3))))
    assert found & unwanted == set()


@pytest.mark.parametrize("words", ["appb sw", "appb switch hel", "appb remove h"])
def test_completion_loads_no_more_than_it_needs(used: Node, words: str) -> None:
    """Each press of the tab key is a run of its own, so it must be as quick as any."""
    code = CODE.replace("status = main()", "try: main()\nexcept SystemExit: status = 0")
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env=os.environ
        | {
            "_APPB_COMPLETE": "bash_complete",
            "COMP_WORDS": words,
            "COMP_CWORD": str(len(words.split()) - 1),
            "APPB_ROOT": str(used.root),
        },
    )
    assert done.stdout
    _, modules = json.loads(done.stderr.splitlines()[-1])
    assert set(modules) & FAST == set()
