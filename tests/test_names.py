"""Names: one spelling each, judged alike wherever they come from."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appbundle import names
from appbundle.errors import UsageError

APPS = ["a", "appb", "nova-api", "x2", "a-1-b", "a" * 26]
NO_APPS = [
    "",
    "A",
    "2x",
    "-a",
    "a-",
    "a--b",
    "a_b",
    "a.b",
    "a b",
    "a/b",
    "..",
    "a" * 27,
    "a\n",
    "é",
    "appbundle",
    "bin",
]
VERSIONS = ["1", "34.0.0", "1.0~rc1+b2_x-y", "v" * 63, "currently"]
NO_VERSIONS = ["", "current", ".", "..", ".1", "-1", "1/2", "1@2", "1 2", "1\n", "é1", "v" * 64]
DIGEST = "0123456789abcdef" * 4
NO_DIGESTS = ["", DIGEST.upper(), DIGEST[:-1], DIGEST + "0", "sha256:" + DIGEST, DIGEST[:-1] + "\n"]

Parse = Callable[[str], object]


@pytest.mark.parametrize(
    ("parse", "text"),
    [
        *((names.parse_app_name, text) for text in APPS),
        *((names.parse_version, text) for text in VERSIONS),
        (names.parse_digest, DIGEST),
    ],
)
def test_good_names_are_taken_as_they_are(parse: Parse, text: str) -> None:
    """A name is never trimmed, folded or otherwise changed."""
    assert parse(text) == text


@pytest.mark.parametrize(
    ("parse", "text"),
    [
        *((names.parse_app_name, text) for text in NO_APPS),
        *((names.parse_version, text) for text in NO_VERSIONS),
        *((names.parse_digest, text) for text in NO_DIGESTS),
        *((names.parse_ref, text) for text in ("", "@", "a@", "@1", "a@1@2", "a@current")),
    ],
)
def test_bad_names_are_refused(parse: Parse, text: str) -> None:
    """What is not exactly a name is a usage error, which shows it escaped."""
    with pytest.raises(UsageError) as caught:
        parse(text)
    assert caught.value.what.isprintable()


@pytest.mark.parametrize("text", ["nova-api", "nova-api@34.0.0"])
def test_references_read_back_as_written(text: str) -> None:
    """A reference prints as what was parsed."""
    assert str(names.parse_ref(text)) == text


def test_users_of_apps_fit() -> None:
    """The user appb-NAME of the longest name is one that useradd accepts: 31 characters."""
    assert len(f"appb-{names.parse_app_name('a' * 26)}") == 31


@given(st.text(max_size=400))
def test_escaped_text_is_one_harmless_line(text: str) -> None:
    """Whatever the text, its escaped form is printable, and escaping it again changes nothing."""
    once = names.escape(text)
    assert once.isprintable()
    assert names.escape(once, limit=len(once)) == once


@pytest.mark.parametrize("text", ["\x1b[31mred", "a\nb", "\u202egnp.exe", "\ud800", "\x00"])
def test_escaped_text_keeps_no_dangerous_character(text: str) -> None:
    """Escape sequences, line ends, reversed text and broken Unicode do not survive."""
    assert not set(names.escape(text)) & {"\x1b", "\n", "\u202e", "\ud800", "\x00"}
