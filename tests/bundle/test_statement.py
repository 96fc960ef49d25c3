"""The statement and the signature area have one spelling each."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appbundle.bundle import container
from appbundle.bundle.statement import (
    Signed,
    Statement,
    encode_signed,
    encode_statement,
    parse_signed,
    parse_statement,
)
from appbundle.errors import AppbError, CorruptError
from appbundle.names import AppName, Digest, Version

STATEMENT = Statement(
    name=AppName("nova-api"),
    version=Version("34.0.0"),
    release=2,
    manifest_frame_size=100,
    manifest_frame_sha256=Digest("a" * 64),
    manifest_size=200,
    manifest_sha256=Digest("b" * 64),
)


def test_statement_reads_back() -> None:
    """Writing and reading are inverse."""
    assert parse_statement(encode_statement(STATEMENT)) == STATEMENT


@pytest.mark.parametrize("position", range(len(encode_statement(STATEMENT))))
def test_no_changed_byte_reads_as_the_same(position: int) -> None:
    """A statement with a byte changed is refused, or says something else."""
    raw = bytearray(encode_statement(STATEMENT))
    raw[position] ^= 0x20
    with contextlib.suppress(AppbError):
        assert parse_statement(bytes(raw)) != STATEMENT


@pytest.mark.parametrize(
    "change",
    [
        (b"release: 2", b"release: 02"),
        (b"release: 2", b"release: -2"),
        (b"release: 2", b"release: 9007199254740992"),
        (b"a" * 64, b"A" * 64),
        (b"a" * 64, b"a" * 63),
        (b"name: nova-api", b"name: Nova"),
        (b"name: nova-api", b"name: nova--api"),
        (b"version: 34.0.0", b"version: ../34"),
        (b"version: 34.0.0", b"version: current"),
        (b"manifest-size: 200", b"manifest-size: 999999999"),
        (b"\n", b"\r\n"),
    ],
)
def test_malformed_statements_are_refused(change: tuple[bytes, bytes]) -> None:
    """Leading zeros, signs, upper case, wrong names and huge numbers do not pass."""
    raw = encode_statement(STATEMENT).replace(*change)
    assert raw != encode_statement(STATEMENT)
    with pytest.raises(AppbError):
        parse_statement(raw)


@given(st.binary(max_size=300), st.lists(st.binary(max_size=200), max_size=16))
def test_area_reads_back(statement: bytes, signatures: list[bytes]) -> None:
    """A head is read as it was written, and its size is a multiple of the step."""
    signed = Signed(statement, tuple(signatures))
    assert parse_signed(encode_signed(signed)) == signed
    raw = container.encode_head(signed)
    assert (len(raw) - len(container.PREAMBLE)) % 2048 == 0
    position = 0

    def read(size: int) -> bytes:
        nonlocal position
        position += size
        return raw[position - size : position]

    assert container.read_head(read).signed == signed


@given(st.binary(max_size=4096))
def test_any_area_is_read_or_refused(area: bytes) -> None:
    """Rubbish is refused by CorruptError and nothing else."""
    with contextlib.suppress(CorruptError):
        parse_signed(area)


def test_constants_are_zstd_frames() -> None:
    """The preamble unpacks to nothing, the end frame to the end of a tar stream."""
    assert container.decompress(container.PREAMBLE, size=0) == b""
    assert container.decompress(container.END_FRAME, size=1024) == bytes(1024)
