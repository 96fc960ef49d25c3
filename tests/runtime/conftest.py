"""The node that most tests of this room share: it is only read."""

from pathlib import Path

import pytest

from .node import ROOT, make_node


@pytest.fixture(scope="session")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A node with hello 1.0 (current) and 2.0."""
    if not ROOT:
        pytest.skip("needs root")
    return make_node(tmp_path_factory.mktemp("node"), versions=("1.0", "2.0"))
