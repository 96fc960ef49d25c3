"""A service under load: what its clients see while something is done to it."""

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from measure import ChildFailed
from nodes import Node

CLIENTS = 12
_HERE = Path(__file__).parent
_ANSWER_S, _END_S = 120, 90


@dataclass(slots=True)
class Load:
    """How it went; empty until the load has ended.

    Args:
        found: From `ask.py`: `requests`, `failed`, `errors`, `median_s`, `worst_s`, `gap_s`.
    """

    found: dict[str, Any] = field(default_factory=dict)


@contextlib.contextmanager
def load(node: Node, url: str) -> Iterator[Load]:
    """Have clients on the service's own machine ask as long as this lasts."""
    words = [sys.executable, str(_HERE / "ask.py"), url, str(CLIENTS)]
    asking = subprocess.Popen(
        [*node.prefix, *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert asking.stdin
    assert asking.stdout
    seen = Load()
    try:
        asking.stdout.readline()
        yield seen
        asking.stdin.close()
        text = asking.stdout.read()
        if asking.wait(timeout=_END_S):
            raise ChildFailed(f"exit {asking.returncode}: {' '.join(words)}", asking.returncode)
        seen.found = json.loads(text)
    finally:
        asking.kill()
        asking.wait()


def await_answers(node: Node, *urls: str) -> None:
    """Wait until every URL has been answered well."""
    node.run(sys.executable, _HERE / "await_answers.py", str(_ANSWER_S), *urls)
