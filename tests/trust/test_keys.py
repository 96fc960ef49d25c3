"""Keys in OpenSSH's own files; what ssh-keygen itself thinks of them is in test_ssh_keygen.py."""

import base64
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appbundle.errors import UsageError
from appbundle.trust import keys
from appbundle.trust.keys import (
    GeneratedKey,
    KeyFileError,
    PassphraseNeededError,
    PublicKey,
    WrongPassphraseError,
)

# A host key that its owner publishes together with its fingerprint.
KNOWN_LINE = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl"
KNOWN_FINGERPRINT = "SHA256:+DiY3wvvV6TuJJhbpZisF/zLDA0zPMSvHdkr4UvCOqU"


@pytest.fixture(scope="module")
def clear() -> GeneratedKey:
    return keys.generate(comment="vendor @ home")


@pytest.fixture(scope="module")
def encrypted() -> GeneratedKey:
    return keys.generate(passphrase=b"secret")


def test_fingerprint_is_the_published_one() -> None:
    """A fingerprint is what others have published for the same key."""
    assert keys.parse_public_key(KNOWN_LINE).fingerprint == KNOWN_FINGERPRINT


def test_comments_do_not_distinguish_keys() -> None:
    """Two keys are the same if their bytes are, whatever their comments."""
    one, other = PublicKey(bytes(32), "one"), PublicKey(bytes(32), "other")
    assert one == other
    assert len({one, other}) == 1


@given(
    st.binary(min_size=32, max_size=32), st.text(st.characters(categories=["L", "N", "P", "Zs"]))
)
def test_public_line_survives(raw: bytes, comment: str) -> None:
    """Reading undoes writing."""
    key = PublicKey(raw, comment.strip(" \t"))
    found = keys.parse_public_key(key.line + "\n")
    assert (found.raw, found.comment.split()) == (key.raw, key.comment.split())


@given(st.text())
def test_public_line_is_read_or_refused(text: str) -> None:
    """No text makes the reader fail in any other way than by saying so."""
    for line in (text, f"ssh-ed25519 {text}", f"{KNOWN_LINE} {text}"):
        with suppress(KeyFileError):
            assert len(keys.parse_public_key(line).raw) == 32


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("", "not an Ed25519 public key"),
        ("ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAAAgQ x", "not an Ed25519 public key"),
        (KNOWN_LINE[:-1], "not the text"),
        (KNOWN_LINE + "=", "not the text"),
        (KNOWN_LINE[:-1] + "_", "not the text"),
        ("ssh-ed25519 " + "A" * 68, "damaged"),
        (
            "ssh-ed25519 " + base64.b64encode(b"\0\0\0\x07ssh-rsa" + bytes(40)).decode(),
            "ssh-rsa",
        ),
        (KNOWN_LINE + "\n" + KNOWN_LINE, "several lines"),
        ("-----BEGIN OPENSSH PRIVATE KEY-----\nx", "private key"),
    ],
)
def test_what_is_no_public_key_is_refused(line: str, complaint: str) -> None:
    """Another type, another spelling, a private key: each is named."""
    with pytest.raises(KeyFileError, match=complaint):
        keys.parse_public_key(line)


def test_generated_key_loads(clear: GeneratedKey) -> None:
    """A generated file loads, with the public half that was announced."""
    assert keys.load_private_key(clear.private).public == clear.public
    assert keys.read_public_half(clear.private) == clear.public
    assert clear.public.line.endswith(" vendor @ home")


def test_needless_passphrase_is_ignored(clear: GeneratedKey) -> None:
    """A passphrase for a key that has none does no harm, as with ssh."""
    assert keys.load_private_key(clear.private, passphrase=b"x").public == clear.public


def test_encrypted_key_needs_its_passphrase(encrypted: GeneratedKey) -> None:
    """No passphrase and a wrong one are two errors; the right one opens the key."""
    with pytest.raises(PassphraseNeededError):
        keys.load_private_key(encrypted.private)
    with pytest.raises(PassphraseNeededError):
        keys.load_private_key(encrypted.private, passphrase=b"")
    with pytest.raises(WrongPassphraseError):
        keys.load_private_key(encrypted.private, passphrase=b"Secret")
    loaded = keys.load_private_key(encrypted.private, passphrase=b"secret")
    assert loaded.public == encrypted.public


def test_public_half_needs_no_passphrase(encrypted: GeneratedKey) -> None:
    """The public half of an encrypted key can be read, so that an agent can be asked for it."""
    assert keys.read_public_half(encrypted.private) == encrypted.public


def test_secrets_are_not_shown(clear: GeneratedKey) -> None:
    """Neither a generated file nor a loaded key shows its secret in messages."""
    body = clear.private.split(b"\n")[3].decode()
    assert body not in repr(clear)
    assert "secret" not in repr(keys.load_private_key(clear.private))


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "not an OpenSSH private key"),
        (KNOWN_LINE.encode(), "public key"),
        (b"-----BEGIN RSA PRIVATE KEY-----\nAAAA\n-----END RSA PRIVATE KEY-----\n", "own format"),
        (b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "own format"),
        (
            b"-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n",
            "damaged",
        ),
    ],
)
def test_what_is_no_private_key_is_refused(content: bytes, complaint: str) -> None:
    """A public key, another format, rubbish: each is named."""
    with pytest.raises(KeyFileError, match=complaint):
        keys.load_private_key(content)


def test_damaged_private_key_is_refused_cleanly(clear: GeneratedKey) -> None:
    """A flipped byte anywhere gives a clean refusal, or the same key where only its seed's
    check bytes or comment could differ; never another key under the announced name.
    """
    lines = clear.private.strip().split(b"\n")
    content = base64.b64decode(b"".join(lines[1:-1]))
    for index in range(len(content)):
        flipped = bytearray(content)
        flipped[index] ^= 0x41
        file = b"\n".join([lines[0], base64.b64encode(flipped), lines[-1], b""])
        try:
            loaded = keys.load_private_key(file)
        except KeyFileError:
            continue
        assert loaded.secret.public_key().public_bytes_raw() == loaded.public_key


def test_comment_is_one_line() -> None:
    """A comment cannot smuggle a second line into the public file."""
    with pytest.raises(UsageError):
        keys.generate(comment="x\nssh-ed25519 AAAA")
