"""Patterns for paths: `*` and `?` within one name, `**` over any number of them."""

import re
from collections.abc import Callable, Iterable


def compile_globs(patterns: Iterable[str]) -> Callable[[str], bool]:
    """Make a test for relative paths; a path matches if any pattern matches all of it."""
    parts = [_translate(pattern) for pattern in patterns]
    if not parts:
        return lambda path: False
    regex = re.compile("|".join(parts))
    return lambda path: regex.fullmatch(path) is not None


def _translate(pattern: str) -> str:
    names = pattern.strip("/").split("/")
    regex = ""
    for at, name in enumerate(names):
        last = at == len(names) - 1
        if name == "**":
            regex += ".*" if last else "(?:[^/]+/)*"
        else:
            regex += _translate_name(name) + ("" if last else "/")
    return f"(?:{regex})"


def _translate_name(name: str) -> str:
    wild = {"*": "[^/]*", "?": "[^/]"}
    return "".join(wild.get(character, re.escape(character)) for character in name)
