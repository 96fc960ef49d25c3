"""Hostile numbers, digests and JSON below a right signature: rows 11, 23, 24, 35, 53."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from appbundle.bundle import manifest as entries
from appbundle.bundle import rules
from appbundle.names import Digest
from tests.bundles import WEB, Draft, Node, draft
from tests.hostile.refusal import assert_refused

Capsys = pytest.CaptureFixture[str]
Document = dict[str, Any]
MANY = 1 << 46


def rewritten(change: Callable[[Document], object]) -> Callable[[], Draft]:
    """Change the manifest as a document, and write it as compactly as the canonical form is."""

    def make() -> Draft:
        made = draft(WEB)
        document = json.loads(rules.encode_manifest(made.manifest))
        change(document)
        made.raw = json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()
        return made

    return make


def respelled(old: str, new: str | bytes) -> Callable[[], Draft]:
    """Replace the first of some characters in the manifest's text."""

    def make() -> Draft:
        made = draft(WEB)
        raw = rules.encode_manifest(made.manifest)
        assert old.encode() in raw
        made.raw = raw.replace(old.encode(), new if isinstance(new, bytes) else new.encode(), 1)
        return made

    return make


def in_file(at: int, value: object) -> Callable[[], Draft]:
    """Change one column of the first file (bin/web)."""
    return rewritten(lambda document: document["files"][0].__setitem__(at, value))


def in_frame(at: int, value: object) -> Callable[[], Draft]:
    """Change one column of the first frame."""
    return rewritten(lambda document: document["frames"][0].__setitem__(at, value))


def in_top(key: str, value: object) -> Callable[[], Draft]:
    """Set a key of the manifest."""
    return rewritten(lambda document: document.__setitem__(key, value))


def with_many_huge_files() -> Draft:
    """Each size is allowed; together they are past 64 bits."""
    made = draft({})
    digest = Digest("a" * 64)
    files = tuple(entries.File(f"{n:06d}", MANY, digest, False, 0) for n in range(140_000))
    return made.change(files=files)


SIZES: dict[str, Callable[[], Draft]] = {
    "23-size-2^46+1": in_file(1, MANY + 1),
    "23-size-2^63-1": in_file(1, (1 << 63) - 1),
    "23-size-2^63": in_file(1, 1 << 63),
    "23-size-2^64": in_file(1, 1 << 64),
    "23-size-huge": in_file(1, 10**400),
    "23-size-exponent": respelled(",21,", ",21e0,"),
    "23-size-1e999": respelled(",21,", ",1e999,"),
    "23-size-float": in_file(1, 21.0),
    "23-size-string": in_file(1, "21"),
    "23-size-none": in_file(1, None),
    "23-size-bool": in_file(1, True),
    "23-leading-zero": respelled(",21,", ",021,"),
    "23-plus": respelled(",21,", ",+21,"),
    "23-sum": with_many_huge_files,
    "23-release": in_top("release", 1 << 53),
    "23-release-2^70": in_top("release", 1 << 70),
    "23-since": in_file(4, 2),
    "23-created": in_top("created", 8**11),
    "23-frame-size": in_frame(1, (4 << 20) + 1),
    "23-frame-size-2^64": in_frame(1, 1 << 64),
    "23-compressed-size": in_frame(0, 5 << 20),
    "23-compressed-size-2^64": in_frame(0, 1 << 64),
    "23-format": in_top("format", 2),
    "24-size": in_file(1, -1),
    "24-size-min": in_file(1, -(1 << 63)),
    "24-size-below-min": in_file(1, -(1 << 64)),
    "24-minus-zero": respelled(",0,", ",-0,"),
    "24-since": in_file(4, -1),
    "24-release": in_top("release", -1),
    "24-created": in_top("created", -1),
    "24-frame-size": in_frame(1, -512),
    "24-frame-size-zero": in_frame(1, 0),
    "24-compressed-size": in_frame(0, -1),
    "24-compressed-size-zero": in_frame(0, 0),
    "size-differs-by-a-block": in_file(1, 21 + 512),
}

DIGESTS: dict[str, Callable[[], Draft]] = {
    "35-upper-case": rewritten(
        lambda document: document["files"][0].__setitem__(2, document["files"][0][2].upper())
    ),
    "35-short": in_file(2, "a" * 63),
    "35-long": in_file(2, "a" * 65),
    "35-empty": in_file(2, ""),
    "35-prefixed": in_file(2, "sha256:" + "a" * 57),
    "35-blank": in_file(2, " " + "a" * 63),
    "35-newline": in_file(2, "a" * 64 + "\n"),
    "35-not-hexadecimal": in_file(2, "g" * 64),
    "35-other-digits": in_file(2, "٣" * 64),
    "35-null": in_file(2, None),
    "35-empty-content's": in_file(2, rules.EMPTY_SHA256),
    "35-frame-upper-case": in_frame(2, "A" * 64),
    "35-frame-short": in_frame(2, "a" * 63),
    "35-previous": in_top("previous", "A" * 64),
    "11-mode": in_file(3, 0o4755),
    "11-mode-string": in_file(3, "true"),
    "11-mode-one": in_file(3, 1),
}

_DEEP = "[" * 200_000
SPELLINGS: dict[str, Callable[[], Draft]] = {
    "53-duplicate-key": respelled('"release":1', '"release":0,"release":1'),
    "53-duplicate-files": respelled('"files":[', '"files":[],"files":['),
    "53-nan": respelled('"created":1700000000', '"created":NaN'),
    "53-infinity": respelled('"created":1700000000', '"created":Infinity'),
    "53-deep": respelled('"files":[', f'"files":[{_DEEP}'),
    "53-deep-unknown": respelled('"format":1', f'"x":{_DEEP}{"]" * 200_000},"format":1'),
    "53-deep-objects": respelled('"format":1', '"x":' + '{"x":' * 100_000 + ',"format":1'),
    "53-trailing-value": respelled('"format":1', '"format":1}{"format":1'),
    "53-trailing-blank": rewritten(lambda document: None),
    "53-unknown-key": in_top("hooks", ["/bin/sh"]),
    "53-unknown-column": rewritten(lambda document: document["files"][0].append("setuid")),
    "53-missing-column": rewritten(lambda document: document["files"][0].pop()),
    "53-missing-key": rewritten(lambda document: document.pop("name")),
    "53-null": in_top("summary", None),
    "53-array": respelled("{", "["),
    "53-comment": respelled("{", "{/* */"),
    "53-trailing-comma": respelled('"release":1,', '"release":1,,'),
    "53-single-quotes": respelled('"web"', "'web'"),
    "53-escape": respelled('"web"', '"w\\u0065b"'),
    "53-slash-escape": respelled("bin/web", "bin\\/web"),
    "53-blank": respelled(":", ": "),
    "53-key-order": rewritten(lambda document: document.update(name=document.pop("name"))),
    "53-default-value": in_top("summary", ""),
    "53-byte-order-mark": respelled("{", b"\xef\xbb\xbf{"),
    "53-not-utf-8": respelled("bin/web", b"bin/w\xffb"),
    "53-overlong-slash": respelled("bin/web", b"bin\xc0\xafweb"),
    "53-surrogate": respelled("bin/web", "bin/\\ud800"),
    "53-surrogate-bytes": respelled("bin/web", b"bin/\xed\xa0\x80"),
    "53-raw-control": respelled("bin/web", "bin/\x01"),
    "53-raw-nul": respelled("bin/web", "bin/\0"),
    "53-string-for-list": in_top("directories", "bin"),
    "53-number-for-path": rewritten(lambda d: d["directories"].__setitem__(0, 1)),
    "53-empty": lambda: _raw(b" "),
    "53-null-document": lambda: _raw(b"null"),
}


def _raw(raw: bytes) -> Draft:
    made = draft(WEB)
    made.raw = raw
    return made


CASES = SIZES | DIGESTS | SPELLINGS


@pytest.mark.parametrize("make", CASES.values(), ids=list(CASES))
def test_hostile_number_or_spelling_is_refused(
    running: Node, make: Callable[[], Draft], capsys: Capsys, request: pytest.FixtureRequest
) -> None:
    """A manifest is the one spelling of values in range, or it is refused."""
    made = make()
    if "trailing-blank" in request.node.name:
        assert made.raw is not None
        made.raw += b"\n"
    assert_refused(running, running.write(made), "bad-manifest", capsys=capsys)


def test_size_that_differs_by_one_is_refused(node: Node, capsys: Capsys) -> None:
    """Row 23: it fits into the same blocks, so that only the content itself can tell."""
    assert_refused(node, node.write(in_file(1, 22)()), "corrupt", "bin/web", capsys=capsys)


@pytest.mark.parametrize(
    ("lie", "kind"),
    [
        ({"manifest-sha256": "a" * 64}, "corrupt"),
        ({"manifest-sha256": "A" * 64}, "corrupt"),
        ({"manifest-frame-sha256": "a" * 64}, "corrupt"),
        ({"manifest-frame-sha256": "a" * 63}, "corrupt"),
        ({"manifest-size": 1}, "corrupt"),
        ({"manifest-size": 0}, "corrupt"),
        ({"manifest-size": -1}, "corrupt"),
        ({"manifest-size": 999_999_999}, "corrupt"),
        ({"manifest-size": "00700"}, "corrupt"),
        ({"manifest-size": 1 << 64}, "corrupt"),
        ({"manifest-frame-size": 1}, "corrupt"),
        ({"manifest-frame-size": 999_999_999}, "corrupt"),
        ({"release": 2}, "corrupt"),
        ({"release": "01"}, "corrupt"),
        ({"release": -1}, "corrupt"),
        ({"release": 1 << 53}, "corrupt"),
        ({"release": 1.5}, "corrupt"),
        ({"name": "other"}, "corrupt"),
        ({"version": "2.0"}, "corrupt"),
        ({"extra": "line"}, "corrupt"),
        ({"version": "1.0\nrelease: 1\nrelease: 9"}, "corrupt"),
    ],
    ids=str,
)
def test_lying_statement_is_refused(
    running: Node, lie: dict[str, object], kind: str, capsys: Capsys
) -> None:
    """Rows 23, 35: a signed statement that is malformed or not of this manifest is refused."""
    made = draft(WEB)
    made.statement = lie
    assert_refused(running, running.write(made), kind, capsys=capsys)


def test_manifest_of_another_bundle_is_refused(running: Node, capsys: Capsys) -> None:
    """Row 29: what was authorised is one digest; another signed manifest there is refused."""
    good, other = draft(WEB), draft(WEB, version="2.0", release=2)
    statement, _ = good.papers()
    assert len(statement)
    good.raw, good.manifest_frame = None, other.papers()[1]
    good.statement = {
        line.split(": ")[0]: line.split(": ")[1]
        for line in statement.decode().splitlines()[1:]
        if line.startswith("manifest")
    }
    assert_refused(running, running.write(good), "corrupt", "manifest", capsys=capsys)
