"""What the examples of a page begin with."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.docs.place import GIVEN, Place, copy


@pytest.fixture(scope="session")
def templates(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Place]:
    """Each thing that a page may begin with, made once."""
    made: dict[str, Place] = {}
    before: Place | None = None
    for name, lines in GIVEN.items():
        place = Place(tmp_path_factory.mktemp("docs") / "place")
        if before is None:
            place.make()
        else:
            copy(before, place)
        place.run(*lines)
        made[name] = before = place
    return made


@pytest.fixture
def place_with(templates: dict[str, Place], tmp_path: Path) -> Callable[[str], Place]:
    """Give a place of the test's own that begins with what a page asks for."""

    def make(name: str) -> Place:
        place = Place(tmp_path / "place")
        copy(templates[name], place)
        return place

    return make
