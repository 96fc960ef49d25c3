"""Killed while a bundle is fetched: the node is as before, and the same command finishes."""

import dataclasses
import random
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from appbundle.repository import configured
from tests.repository.publisher import Publisher, use
from tests.repository.test_http import honest
from tests.repository.web import Request, answer, serving

from .support import Node, argv, hello, make_bundle


@dataclass(slots=True)
class Stalling:
    """A web server's folder that gives half of a bundle's payload, and then no more.

    Args:
        folder: What is served.
        stalled: Set when it waits for the client's end.
        released: Set to let it go on for good.
    """

    folder: Path
    stalled: threading.Event = field(default_factory=threading.Event)
    released: threading.Event = field(default_factory=threading.Event)

    def __call__(self, request: Request) -> bytes | Iterator[bytes]:
        """Answer a request."""
        file = self.folder / request.path.lstrip("/")
        if not file.is_file():
            return answer(status="404 Not Found")
        whole = honest(request, file.read_bytes())
        # The payload is asked for in parts that are larger than all the rest together.
        return whole if self.released.is_set() or len(whole) < 1 << 20 else self._half(whole)

    def _half(self, whole: bytes) -> Iterator[bytes]:
        yield whole[: len(whole) // 2]
        self.stalled.set()
        self.released.wait(60)


@pytest.fixture
def publisher(tmp_path: Path) -> Publisher:
    """A repository with two releases of 6 MB, of which most is in both."""
    made = Publisher(tmp_path)
    for number in (1, 2):
        tree = {f"share/{n}": random.Random(f"{n} {number}").randbytes(1 << 20) for n in range(6)}
        made.publish(
            make_bundle(
                *(tmp_path, "hello", f"{number}.0"), release=number, tree={**hello("x"), **tree}
            )
        )
    return made


def test_death_during_a_download_changes_nothing(node: Node, publisher: Publisher) -> None:
    """What was fetched is gone, what was there is whole, and the next run gets everything."""
    folder = publisher.folder.path
    use(node.layout, folder)
    assert subprocess.run(argv(node, "install", "hello@1.0")).returncode == 0
    before, server = node.looks(), Stalling(folder)
    with serving(server) as web:
        site = dataclasses.replace(configured.read(node.layout, "site"), urls=(web.url,))
        configured.add(node.layout, site, configured.read_pinned(node.layout, site))
        child = subprocess.Popen(argv(node, "upgrade"))
        try:
            assert server.stalled.wait(60)
            assert list(node.layout.stage.iterdir()), "it was unpacking meanwhile"
        finally:
            child.kill()
            child.wait()
        assert node.looks() == before
        server.released.set()
        assert subprocess.run(argv(node, "upgrade")).returncode == 0
    assert node.looks().apps == {"hello": "2.0"}
    assert node.problems() == {}
    assert node.leftovers() == []
    assert node.unshared_objects() == []
