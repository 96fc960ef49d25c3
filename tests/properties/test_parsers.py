"""Parsers meet anything: they give a value, whose bytes are just these, or say what is wrong."""

import contextlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from appbundle.bundle import container, rules
from appbundle.bundle import manifest as entries
from appbundle.bundle.statement import (
    Signed,
    encode_signed,
    encode_statement,
    parse_signed,
    parse_statement,
)
from appbundle.errors import CorruptError, ManifestError, TrustError, UsageError
from appbundle.names import parse_app_name, parse_ref, parse_version
from appbundle.trust import allowed_signers, sshsig
from appbundle.trust.keys import PrivateKey, PublicKey
from tests.bundles import WEB, File, draft
from tests.crash import support
from tests.crash.support import memory_directory, new_node, run_cli

from .effort import examples


def _key(number: int) -> PrivateKey:
    """A key that is the same in every run, so that examples are."""
    secret = Ed25519PrivateKey.from_private_bytes(bytes((number,)) * 32)
    return PrivateKey(PublicKey(secret.public_key().public_bytes_raw()), secret)


KEY, OTHER = _key(1), _key(2)
DRAFT = draft({**WEB, "etc/a\u0301 name": File("odd"), "etc/" + "long" * 40: File("x")}).change(
    summary="one line", run=entries.Run(argv=("/bin/web", "-v"), environment={"A": "b"})
)
STATEMENT = DRAFT.papers()[0]
BLOB = sshsig.sign_blob(STATEMENT, KEY)
SIGNED = Signed(STATEMENT, (BLOB, BLOB))


@st.composite
def mutated(draw: st.DrawFn, valid: bytes) -> bytes:
    """Something that was valid before a few bytes were lost, changed, repeated or put in."""
    raw = valid
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(raw)))
        end = draw(st.sampled_from([at, at + 1, at + 4]) | st.integers(at, len(raw)))
        middle = draw(
            st.binary(max_size=8)
            | st.just(raw[at:end] * 2)
            | st.sampled_from([b"", b"\0", b"\n", b"-1", b"9" * 20, b"\xff" * 4, b"\xed\xa0\x80"])
        )
        raw = raw[:at] + middle + raw[end:]
    return raw


def _read_head(raw: bytes) -> bytes:
    position = 0

    def read(size: int) -> bytes:
        nonlocal position
        piece = raw[position : position + size]
        position += len(piece)
        return piece

    head = container.read_head(read)
    assert head.size == position
    return container.encode_head(head.signed) + raw[position:]


def _reencode_manifest(raw: bytes) -> bytes:
    return rules.encode_manifest(rules.read_manifest(raw))


AGAIN: dict[str, tuple[bytes, Callable[[bytes], bytes]]] = {
    "statement": (STATEMENT, lambda raw: encode_statement(parse_statement(raw))),
    "head": (container.encode_head(SIGNED), _read_head),
    "signatures": (BLOB, lambda raw: sshsig.encode(sshsig.parse(raw))),
    "manifest": (rules.encode_manifest(DRAFT.manifest), _reencode_manifest),
}
"""A valid one of each kind; and reading it, then writing what was read."""


@pytest.mark.parametrize("kind", AGAIN)
@given(data=st.data())
@settings(max_examples=examples(150))
def test_what_can_be_read_has_one_spelling(kind: str, data: st.DataObject) -> None:
    """Whatever is accepted is written again as the same bytes; all else is a clean refusal."""
    valid, again = AGAIN[kind]
    assert again(valid) == valid
    raw = data.draw(mutated(valid) | st.binary(max_size=200))
    with contextlib.suppress(CorruptError, TrustError):
        assert again(raw) == raw


@given(mutated(encode_signed(SIGNED)))
@settings(max_examples=examples(150))
def test_area_is_read_or_refused(raw: bytes) -> None:
    """Of an area nothing can be lost but zero bytes behind it."""
    with contextlib.suppress(CorruptError):
        again = encode_signed(parse_signed(raw))
        assert raw.startswith(again)
        assert not raw[len(again) :].strip(b"\0")


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=5,
)


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every container in a document with each key or index in it."""
    keys = (
        value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    )
    for key in keys:
        yield value, key
        yield from _places(value[key])


@given(st.data())
@settings(max_examples=examples(100))
def test_manifest_of_any_shape_is_read_or_refused(data: st.DataObject) -> None:
    """Values of other types and out of range in any place are refused by ManifestError alone."""
    document = json.loads(rules.encode_manifest(DRAFT.manifest))
    for _ in range(data.draw(st.integers(1, 3))):
        home, key = data.draw(st.sampled_from(list(_places(document))))
        home[key] = data.draw(_JSON | st.sampled_from([home[key], "", "..", "a/../b", 2**63, -1]))
    raw = json.dumps(document, separators=(",", ":"), ensure_ascii=data.draw(st.booleans()))
    with contextlib.suppress(ManifestError):
        assert _reencode_manifest(raw.encode("utf-8", "surrogatepass")).decode() == raw


@given(st.data())
@settings(max_examples=examples(200))
def test_frame_gives_its_size_or_nothing(data: st.DataObject) -> None:
    """A frame of any bytes unpacks to exactly the size that was signed, or is corrupt."""
    plain = b"0123456789" * data.draw(st.integers(0, 300))
    frame = data.draw(mutated(container.compress(plain, level=data.draw(st.integers(1, 19)))))
    size = data.draw(st.sampled_from([len(plain), len(plain) + 1, 0]))
    with contextlib.suppress(CorruptError):
        assert len(container.decompress(frame, size=size)) == size


_LINE = allowed_signers.format_entry(
    KEY.public, names=("web-*", "!web-api"), valid_after=1_700_000_000, valid_before=1_900_000_000
)


@given(mutated(_LINE.encode()))
@settings(max_examples=examples(200))
def test_damaged_line_of_trust_hides_no_other(raw: bytes) -> None:
    """A damaged line makes the reader fail in no way, and the line after it counts as before."""
    text = raw.decode("utf-8", "surrogateescape")
    good = allowed_signers.format_entry(OTHER.public, names=("other",))
    assert allowed_signers.parse(f"{text}\n{good}")[-1].key.raw == OTHER.public.raw


@given(st.text(max_size=30) | st.from_regex(r"[a-z0-9-]{1,27}(@[0-9A-Za-z.+~_-]{0,64})?\n?"))
@settings(max_examples=examples(200))
def test_reference_is_taken_as_it_is_or_refused(text: str) -> None:
    """What is typed names exactly one thing, or is refused; a name is never corrected."""
    for parse in (parse_ref, parse_app_name, parse_version):
        with contextlib.suppress(UsageError):
            assert str(parse(text)) == text


RECORDS = {
    "apps/hello/2.0/.bundle/about.json": 20,
    "apps/hello/2.0/.bundle/signed": 10,
    "apps/hello/2.0/.bundle/manifest.tar.zst": 10,
    "apps/.appb/generations/2/generation.json": 20,
    "apps/.appb/releases/hello": 10,
    "etc/appbundle/allowed_signers": 10,
    "etc/appbundle/node.toml": 10,
}
LOOKS = ["list", "history", "info hello", "verify", "gc -n", "switch --previous -n", "diff 1 2"]


@pytest.fixture(scope="module")
def node() -> Iterator[support.Node]:
    """A node that runs hello 2.0 after 1.0."""
    with memory_directory() as memory:
        made = new_node(memory / "node")
        for number in (1, 2):
            made.install(support.make_bundle(memory, "hello", f"{number}.0", release=number))
        made.layout.node_settings.write_text("[retention]\nkeep = 3\nolder_than_days = 30\n")
        yield made


@pytest.mark.parametrize("record", RECORDS)
def test_damaged_record_is_said(node: support.Node, record: str) -> None:
    """No file of the node, however damaged, makes a command fail other than by saying so."""
    path: Path = node.root / record
    whole = path.read_bytes()

    @given(mutated(whole) | st.binary(max_size=20) | _JSON.map(lambda x: json.dumps(x).encode()))
    @settings(max_examples=examples(RECORDS[record]))
    def damage(raw: bytes) -> None:
        path.write_bytes(raw)
        for command in LOOKS:
            said = run_cli(node, *command.split())
            assert said.status in (0, 1, 2, 10, 20, 21), (command, said)

    try:
        damage()
    finally:
        path.write_bytes(whole)
