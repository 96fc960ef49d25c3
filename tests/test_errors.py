"""Errors: a kind for programs, an exit code for scripts, three sentences for people."""

import importlib
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import appbundle
from appbundle.errors import AppbError

DOCUMENTED = (Path(__file__).parent.parent / "docs/json.md").read_text().partition("Exit codes")[2]
CODES = {
    int(code)
    for row in re.findall(r"^\| ([\d, ]+) \|", DOCUMENTED, re.M)
    for code in row.split(",")
}


def every_error() -> list[type[AppbError]]:
    """All classes of errors that appb has, wherever they are defined."""
    for module in pkgutil.walk_packages(appbundle.__path__, "appbundle."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    return list(_below(AppbError))


def _below(kind: type[AppbError]) -> Iterator[type[AppbError]]:
    yield kind
    for sub in kind.__subclasses__():
        yield from _below(sub)


def test_exit_codes_are_the_documented_ones() -> None:
    """Errors use all of the documented exit codes but success, and no others."""
    assert {each.exit_code for each in every_error()} == CODES - {0}


def test_kinds_are_distinct() -> None:
    """No two classes of errors say the same kind: scripts tell them apart by it."""
    kinds = [each.kind for each in every_error()]
    assert sorted(kinds) == sorted(set(kinds))


@pytest.mark.parametrize("kept", ["", "web 1.0 stays current"])
def test_errors_say_that_nothing_changed_unless_told_otherwise(kept: str) -> None:
    """An error without further words promises that nothing was changed."""
    assert AppbError("it broke").kept == "nothing was changed"
    assert AppbError("it broke", kept=kept).kept == kept
