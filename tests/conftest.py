"""What tests of several rooms share: a node in memory, and tiny bundles that are made only once."""

import functools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.crash.support import Node, hello, make_bundle, memory_directory, new_node


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let what takes minutes begin first: where files run side by side, nobody waits for it."""
    items.sort(key=lambda item: item.get_closest_marker("minutes") is None)


@pytest.fixture
def memory() -> Iterator[Path]:
    """A scratch directory in memory."""
    with memory_directory() as path:
        yield path


@pytest.fixture
def node(memory: Path) -> Node:
    """A node that trusts the tests' key and has nothing installed."""
    return new_node(memory / "node")


@pytest.fixture(scope="session")
def bundle() -> Iterator[Callable[[str, int], Path]]:
    """Give the bundle of an app's Nth release, which is version N.0; one file is its own."""
    with memory_directory() as directory:

        @functools.cache
        def make(name: str, number: int) -> Path:
            tree = hello(f"{name} {number}")
            return make_bundle(directory, name, f"{number}.0", release=number, tree=tree)

        yield make
