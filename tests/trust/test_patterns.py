"""Lists of patterns; that ssh-keygen agrees is checked in test_ssh_keygen.py."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appbundle.trust.patterns import matches, matches_list


@pytest.mark.parametrize(
    ("pattern", "text", "expected"),
    [
        ("nova-api", "nova-api", True),
        ("nova-api", "nova-api2", False),
        ("nova-*", "nova-api", True),
        ("nova-*", "nova-", True),
        ("nova-*", "nova", False),
        ("*", "anything", True),
        ("*-*", "nova-api", True),
        ("?ova", "nova", True),
        ("?ova", "ova", False),
        ("nova?", "nova", False),
        ("n*a*i", "nova-api", True),
        ("[n]ova", "nova", False),
        ("n.va", "nova", False),
        ("", "nova", False),
    ],
)
def test_pattern(pattern: str, text: str, expected: bool) -> None:
    """`*` is anything, `?` is one character, all else is itself."""
    assert matches(text, pattern) is expected


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [
        ("nova-api", True),
        ("glance,nova-api", True),
        ("glance", False),
        ("*,!nova-api", False),
        ("!nova-api,*", False),
        ("!glance,*", True),
        ("!glance", False),
        ("!*", False),
        ("", False),
        (",,nova-api", True),
        ("!", False),
        ("*," + "x" * 1023, False),
    ],
)
def test_list(patterns: str, expected: bool) -> None:
    """One pattern is enough, and a negated one that matches overrules all others."""
    assert matches_list("nova-api", patterns) is expected


@given(st.text("ab*?", max_size=12), st.text("ab", max_size=12))
def test_pattern_agrees_with_a_regular_expression(pattern: str, text: str) -> None:
    """The matcher is the same function as the obvious regular expression."""
    expression = re.escape(pattern).replace(r"\*", ".*").replace(r"\?", ".")
    assert matches(text, pattern) is bool(re.fullmatch(expression, text))


def test_no_pattern_takes_long() -> None:
    """A pattern made to be slow is not."""
    assert not matches("a" * 5000, "*a" * 200 + "b")
