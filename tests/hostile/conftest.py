"""A node that runs an honest application already: what a refusal must leave as it is."""

from pathlib import Path

import pytest

from appbundle.trust.keys import PrivateKey
from tests.bundles import WEB, Node, draft, make_node, new_key


@pytest.fixture(scope="session")
def key() -> PrivateKey:
    """A key that the node trusts for everything."""
    return new_key()


@pytest.fixture(scope="session")
def stranger() -> PrivateKey:
    """A key that the node does not know."""
    return new_key()


@pytest.fixture
def node(tmp_path: Path, key: PrivateKey) -> Node:
    """A fresh node; nothing is installed."""
    return make_node(tmp_path / "node", key)


@pytest.fixture
def running(node: Node) -> Node:
    """A node that runs web 0.9."""
    node.install(node.write(draft(WEB, version="0.9", release=0, since=0)))
    return node
