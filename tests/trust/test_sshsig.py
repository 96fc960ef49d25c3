"""The one shape of signature that a bundle carries."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appbundle.errors import AppbError, BadSignatureError
from appbundle.trust import keys, sshsig
from appbundle.trust.keys import PrivateKey
from appbundle.trust.wire import string, uint32

MESSAGE = b"a statement\n"


@pytest.fixture(scope="module")
def key() -> PrivateKey:
    return keys.load_private_key(keys.generate().private)


@pytest.fixture(scope="module")
def blob(key: PrivateKey) -> bytes:
    return sshsig.sign_blob(MESSAGE, key)


def make_blob(
    *,
    magic: bytes = b"SSHSIG",
    version: int = 1,
    key_type: bytes = b"ssh-ed25519",
    namespace: bytes = b"appb-bundle-v1",
    reserved: bytes = b"",
    hash_name: bytes = b"sha512",
    algorithm: bytes = b"ssh-ed25519",
    tail: bytes = b"",
) -> bytes:
    """Write a blob field by field, as PROTOCOL.sshsig says, so that any field can be wrong."""
    return (
        magic
        + uint32(version)
        + string(string(key_type) + string(bytes(32)))
        + string(namespace)
        + string(reserved)
        + string(hash_name)
        + string(string(algorithm) + string(bytes(64)))
        + tail
    )


def test_blob_is_as_the_protocol_says() -> None:
    """The constants of the layout add up to the fields of PROTOCOL.sshsig."""
    assert make_blob() == sshsig.encode(sshsig.Signature(bytes(32), bytes(64)))
    assert len(make_blob()) == 184


def test_signed_data_is_as_the_protocol_says() -> None:
    """What is signed is magic, namespace, nothing reserved, hash name and hash."""
    assert sshsig.signed_data(MESSAGE) == (
        b"SSHSIG"
        + string(b"appb-bundle-v1")
        + string(b"")
        + string(b"sha512")
        + string(hashlib.sha512(MESSAGE).digest())
    )


def test_signature_holds_for_its_message_only(key: PrivateKey, blob: bytes) -> None:
    """A signature holds for the message that was signed and for no other."""
    signature = sshsig.parse(blob)
    assert signature.public_key == key.public_key
    assert sshsig.holds(signature, MESSAGE)
    assert not sshsig.holds(signature, MESSAGE + b"\0")


def test_signing_twice_gives_the_same_bytes(key: PrivateKey, blob: bytes) -> None:
    """Signing is deterministic, so a bundle signed again is the same bundle."""
    assert sshsig.sign_blob(MESSAGE, key) == blob


@pytest.mark.parametrize(
    ("wrong", "complaint"),
    [
        (make_blob(magic=b"SSHSIX"), "not an SSH signature"),
        (make_blob(version=2), "not version 1"),
        (make_blob(version=0), "not version 1"),
        (make_blob(key_type=b"ssh-ed25518"), "not made by an Ed25519 key"),
        (make_blob(key_type=b"ssh-rsa"), "not made by an Ed25519 key"),
        (make_blob(namespace=b"file"), "namespace"),
        (make_blob(namespace=b"appb-bundle-v2"), "namespace"),
        (make_blob(reserved=b"x"), "reserved"),
        (make_blob(hash_name=b"sha256"), "SHA-512"),
        (make_blob(algorithm=b"ssh-ed25518"), "algorithm is not Ed25519"),
        (make_blob(tail=b"\0"), "length"),
        (b"", "not an SSH signature"),
    ],
)
def test_any_other_field_is_refused_and_named(wrong: bytes, complaint: str) -> None:
    """Every field that is not the one value a bundle uses is refused by name."""
    with pytest.raises(BadSignatureError, match=complaint):
        sshsig.parse(wrong)


def test_every_truncation_is_refused(blob: bytes) -> None:
    """A blob that is cut short anywhere is no signature."""
    for size in range(len(blob)):
        with pytest.raises(BadSignatureError):
            sshsig.parse(blob[:size])


def test_every_flipped_bit_is_noticed(blob: bytes) -> None:
    """A blob in which any single bit differs is either malformed or does not hold."""
    for bit in range(len(blob) * 8):
        flipped = bytearray(blob)
        flipped[bit // 8] ^= 1 << bit % 8
        try:
            signature = sshsig.parse(bytes(flipped))
        except BadSignatureError:
            continue
        assert not sshsig.holds(signature, MESSAGE), f"bit {bit}"


@given(st.binary(max_size=400) | st.binary(min_size=184, max_size=184))
def test_parse_refuses_or_gives_back_the_same(content: bytes) -> None:
    """Whatever parses is written again as the same bytes."""
    try:
        signature = sshsig.parse(content)
    except BadSignatureError:
        return
    assert sshsig.encode(signature) == content


@given(st.binary(min_size=32, max_size=32), st.binary(min_size=64, max_size=64))
def test_every_signature_survives_encoding(public_key: bytes, signature: bytes) -> None:
    """Parsing undoes encoding, whatever key and signature are; nonsense never holds."""
    made = sshsig.Signature(public_key, signature)
    assert sshsig.parse(sshsig.encode(made)) == made
    assert not sshsig.holds(made, MESSAGE)


@given(st.binary(min_size=1, max_size=300))
def test_unarmor_undoes_armor(content: bytes) -> None:
    """Armor keeps every byte."""
    assert sshsig.unarmor(sshsig.armor(content)) == content


@given(st.text())
def test_unarmor_refuses_or_gives_back_the_same(text: str) -> None:
    """Whatever can be unarmored is armored again as the same text."""
    try:
        content = sshsig.unarmor(text)
    except BadSignatureError:
        return
    assert sshsig.armor(content) == text


def test_armor_has_one_spelling(blob: bytes) -> None:
    """Other line lengths, blanks, line ends, missing headers and leftovers are refused."""
    text = sshsig.armor(blob)
    begin, *lines, end, _ = text.split("\n")
    others = [
        text.replace("\n", "\r\n"),
        text + "\n",
        " " + text,
        text.rstrip("\n"),
        "\n".join([begin, "".join(lines), end, ""]),
        "\n".join([*lines, end, ""]),
        "\n".join([begin, *lines, ""]),
        "\n".join([begin, "", *lines, end, ""]),
        text.replace("SSH SIGNATURE", "PGP SIGNATURE"),
        text.replace(lines[0][:1], "\u00e9", 1),
        "",
    ]
    for other in others:
        with pytest.raises(BadSignatureError):
            sshsig.unarmor(other)


class _Liar:
    """A signer whose signatures are somebody else's."""

    def __init__(self, public_key: bytes, signature: bytes) -> None:
        self.public_key = public_key
        self._signature = signature

    def sign(self, data: bytes) -> bytes:
        return self._signature


@pytest.mark.parametrize("signature", [b"", bytes(63), bytes(64), bytes(65)])
def test_wrong_signature_of_an_agent_is_never_written(key: PrivateKey, signature: bytes) -> None:
    """What a signer gives is checked before it is used."""
    with pytest.raises(AppbError, match="wrong signature"):
        sshsig.sign_blob(MESSAGE, _Liar(key.public_key, signature))
