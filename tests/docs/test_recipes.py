"""docs/recipes.md's example of another kind of source works as it stands there."""

from pathlib import Path
from typing import Any

import pytest

from appbundle.build import sources
from appbundle.cli.main import run_command
from tests.docs import console
from tests.docs.place import REPOSITORY

RECIPE = """
name = "motd"
[releases."1.0"]
release = 1
"""


def block(language: str) -> str:
    """The page's only block in a language."""
    page = (REPOSITORY / "docs/recipes.md").read_text()
    (found,) = (each for each in console.blocks(page) if each.language == language)
    return "\n".join(found.lines) + "\n"


def test_kind_of_the_page_builds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Module, line in KINDS and table in a recipe together make a bundle with the file."""
    module: dict[str, Any] = {"__name__": "text"}
    exec(compile(block("python"), "docs/recipes.md", "exec"), module)
    monkeypatch.setitem(sources.KINDS, "text", module["Text"])
    (tmp_path / "recipe.toml").write_text(RECIPE + block("toml"))
    made = tmp_path / "made"
    cache = str(tmp_path / "cache")
    assert run_command(["build", str(tmp_path), "--dir", str(made), "--cache", cache]) == 0
    assert (made / "etc/motd").read_text() == "This is motd 1.0.\n"
