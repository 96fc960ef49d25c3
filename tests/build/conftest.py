"""What tests of sources share: a place to work, and somebody to tell."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from appbundle.build.sources.base import Site
from appbundle.names import AppName, Version
from tests.build.test_encode import Content, make_tree


@dataclass
class Talk:
    """Remembers what a build says."""

    steps: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    progress: list[tuple[int, int]] = field(default_factory=list)

    def step(self, text: str) -> None:
        """Begin something."""
        self.steps.append(text)

    def advance(self, done: int, total: int) -> None:
        """Say how far it is."""
        self.progress.append((done, total))

    def note(self, text: str) -> None:
        """Say something worth knowing."""
        self.notes.append(text)


MakeSite = Callable[..., Site]


@pytest.fixture
def talk() -> Talk:
    """Nothing said yet."""
    return Talk()


@pytest.fixture
def make_site(tmp_path: Path, talk: Talk) -> MakeSite:
    """Make places for a source to work; one cache and recipe, a new tree each time."""
    count = 0

    def make(
        *, tree: Mapping[str, Content] | None = None, environment: Mapping[str, str] | None = None
    ) -> Site:
        nonlocal count
        count += 1
        room = tmp_path / f"site-{count}"
        for directory in (room / "tree", room / "scratch", tmp_path / "cache", tmp_path / "recipe"):
            directory.mkdir(parents=True, exist_ok=True)
        return Site(
            tree=make_tree(room / "tree", tree or {}),
            directory=tmp_path / "recipe",
            cache=tmp_path / "cache",
            scratch=room / "scratch",
            name=AppName("web"),
            version=Version("1.0"),
            environment={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", **(environment or {})},
            report=talk,
        )

    return make
