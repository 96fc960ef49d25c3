"""Ed25519 keys in OpenSSH's own files. OpenSSH's PROTOCOL.key; RFC 8709 for the public half."""

from __future__ import annotations

import binascii
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from appbundle.errors import UsageError
from appbundle.names import escape
from appbundle.trust.wire import Reader, string

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

KEY_TYPE = "ssh-ed25519"

_BLOB_PREFIX = string(KEY_TYPE.encode()) + b"\0\0\0\x20"
_BLOB_SIZE = len(_BLOB_PREFIX) + 32
# 51 bytes are exactly 68 digits: no padding, no spare bits, so one key has one spelling.
_BASE64 = re.compile(r"[A-Za-z0-9+/]{68}", re.ASCII)
_PRIVATE_FILE = re.compile(
    rb"-----BEGIN OPENSSH PRIVATE KEY-----([A-Za-z0-9+/=\s]+)"
    rb"-----END OPENSSH PRIVATE KEY-----\s*"
)
_PRIVATE_MAGIC = b"openssh-key-v1\0"
_KDF_ROUNDS = 24
"""Of bcrypt, as ssh-keygen has it since OpenSSH 9.4: some tenths of a second a guess."""
_HINT = "appb key new FILE makes a key; so does ssh-keygen -t ed25519"


class KeyFileError(UsageError):
    """A file is not a key that can be used here; says why."""

    kind = "key-file"


class PassphraseNeededError(KeyFileError):
    """A private key is encrypted, and no passphrase was given."""

    kind = "passphrase-needed"


class WrongPassphraseError(KeyFileError):
    """A private key does not open with the passphrase given."""

    kind = "wrong-passphrase"


@dataclass(frozen=True, slots=True)
class PublicKey:
    """An Ed25519 public key; two are equal if their bytes are, whatever the comments.

    Args:
        raw: 32 bytes.
        comment: Free text, for people; proves nothing.
    """

    raw: bytes
    comment: str = field(default="", compare=False)

    @property
    def blob(self) -> bytes:
        """The key in SSH's encoding, 51 bytes."""
        return _BLOB_PREFIX + self.raw

    @property
    def fingerprint(self) -> str:
        """`SHA256:…`, as `ssh-keygen -l` prints it."""
        return fingerprint_of(self.blob)

    @property
    def line(self) -> str:
        """The line of a `.pub` file, without its newline."""
        encoded = binascii.b2a_base64(self.blob, newline=False).decode()
        return f"{KEY_TYPE} {encoded} {self.comment}".rstrip(" ")


@dataclass(frozen=True, slots=True)
class PrivateKey:
    """An Ed25519 private key in memory; a `Signer`.

    Args:
        public: Its public half.
        secret: The library's key; not shown by repr.
    """

    public: PublicKey
    secret: Ed25519PrivateKey = field(repr=False, compare=False)

    @property
    def public_key(self) -> bytes:
        """The public half, 32 bytes."""
        return self.public.raw

    def sign(self, data: bytes) -> bytes:
        """Give the Ed25519 signature of data, 64 bytes."""
        return self.secret.sign(data)


@dataclass(frozen=True, slots=True)
class GeneratedKey:
    """A new pair of keys as files.

    Args:
        private: Content of the private file; mode 0600 is the caller's duty.
        public: `public.line` and a newline are the content of the `.pub` file.
    """

    private: bytes = field(repr=False)
    public: PublicKey


@dataclass(frozen=True, slots=True)
class _Envelope:
    """What a private key's file says without a passphrase."""

    cipher: str
    public_blob: bytes

    @property
    def encrypted(self) -> bool:
        return self.cipher != "none"


def fingerprint_of(blob: bytes) -> str:
    """Give the fingerprint of a public key of any type.

    Args:
        blob: The key in SSH's encoding.

    Returns:
        `SHA256:` and 43 base64 digits.
    """
    import hashlib

    digest = binascii.b2a_base64(hashlib.sha256(blob).digest(), newline=False).decode()
    return "SHA256:" + digest.rstrip("=")


def decode_public_blob(blob: bytes, *, comment: str = "") -> PublicKey:
    """Read a public key in SSH's encoding.

    Raises:
        KeyFileError: It is of another type, or malformed.
    """
    if not blob.startswith(_BLOB_PREFIX) or len(blob) != _BLOB_SIZE:
        raise KeyFileError(f"the key is not Ed25519 but {_type_of(blob)}", hint=_HINT)
    return PublicKey(blob[len(_BLOB_PREFIX) :], comment)


def _type_of(blob: bytes) -> str:
    try:
        name = Reader(blob).string().decode()
    except ValueError:
        return "damaged"
    return "damaged" if name in ("", KEY_TYPE) else escape(name)


def decode_public_base64(text: str, *, comment: str = "") -> PublicKey:
    """Read the middle column of a `.pub` file.

    Raises:
        KeyFileError: It is not the one spelling of an Ed25519 key.
    """
    if not _BASE64.fullmatch(text):
        raise KeyFileError(f"this is not the text of an Ed25519 key: {escape(text)}", hint=_HINT)
    return decode_public_blob(binascii.a2b_base64(text), comment=comment)


def parse_public_key(line: str) -> PublicKey:
    """Read the content of a `.pub` file: type, key, and perhaps a comment.

    Raises:
        KeyFileError: It is anything else; a private key or another type is called that.
    """
    text = line.strip(" \t\r\n")
    if "PRIVATE KEY-----" in text:
        raise KeyFileError("this is a private key, not its public half", hint="name the .pub file")
    if "\n" in text:
        raise KeyFileError("this is not one public key but several lines", hint=_HINT)
    key_type, _, rest = text.replace("\t", " ").partition(" ")
    encoded, _, comment = rest.strip().partition(" ")
    if key_type != KEY_TYPE:
        raise KeyFileError(f"this is not an Ed25519 public key: {escape(text)}", hint=_HINT)
    return decode_public_base64(encoded, comment=comment.strip())


def read_public_half(private: bytes) -> PublicKey:
    """Give the public key that a private key's file carries in clear; needs no passphrase.

    Raises:
        KeyFileError: It is not an OpenSSH private key, or not Ed25519.
    """
    return decode_public_blob(_open_envelope(private).public_blob)


def load_private_key(private: bytes, *, passphrase: bytes | None = None) -> PrivateKey:
    """Read a private key from the content of its file.

    Args:
        private: As `ssh-keygen` or `generate` wrote it.
        passphrase: Ignored where the file is not encrypted.

    Raises:
        PassphraseNeededError: It is encrypted, and there is no passphrase.
        WrongPassphraseError: The passphrase does not open it.
        KeyFileError: It is not an OpenSSH private key, or not Ed25519.
    """
    envelope = _open_envelope(private)
    public = decode_public_blob(envelope.public_blob)
    if envelope.encrypted and not passphrase:
        raise PassphraseNeededError(
            "the private key is encrypted, and no passphrase was given",
            hint="give the passphrase, or add the key to ssh-agent: ssh-add KEYFILE",
        )
    secret = _decrypt(private, envelope, passphrase if envelope.encrypted else None)
    if secret.public_key().public_bytes_raw() != public.raw:
        raise KeyFileError("the private key's file is damaged: its halves do not fit")
    return PrivateKey(public, secret)


def _open_envelope(private: bytes) -> _Envelope:
    match = _PRIVATE_FILE.fullmatch(private.lstrip())
    if match is None:
        raise _not_a_private_key(private)
    try:
        reader = Reader(binascii.a2b_base64(match[1]))
        if reader.take(len(_PRIVATE_MAGIC)) != _PRIVATE_MAGIC:
            raise ValueError("magic")
        cipher = reader.string().decode("ascii")
        reader.string()  # the name of the key derivation
        reader.string()  # its options
        if reader.uint32() != 1:
            raise ValueError("several keys")
        return _Envelope(cipher, reader.string())
    except ValueError as error:
        raise KeyFileError("the private key's file is damaged", hint=_HINT) from error


def _not_a_private_key(content: bytes) -> KeyFileError:
    if content.startswith(b"ssh-"):
        return KeyFileError(
            "this is a public key; the private one is needed", hint="name the file without .pub"
        )
    if b"PRIVATE KEY-----" in content:
        return KeyFileError("this private key is not in OpenSSH's own format", hint=_HINT)
    return KeyFileError("this is not an OpenSSH private key", hint=_HINT)


def _decrypt(private: bytes, envelope: _Envelope, passphrase: bytes | None) -> Ed25519PrivateKey:
    from cryptography.exceptions import InvalidTag, UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_ssh_private_key

    try:
        secret = load_ssh_private_key(private, passphrase)
    except UnsupportedAlgorithm as error:
        raise KeyFileError(
            f"the private key is encrypted with {escape(envelope.cipher)}, which appb lacks",
            hint="ssh-add KEYFILE, or encrypt it anew: ssh-keygen -p -Z aes256-ctr -f KEYFILE",
        ) from error
    except (ValueError, TypeError, InvalidTag) as error:
        if envelope.encrypted:
            raise WrongPassphraseError("the passphrase does not open the private key") from error
        raise KeyFileError("the private key's file is damaged", hint=_HINT) from error
    if not isinstance(secret, Ed25519PrivateKey):
        raise KeyFileError("the private key is not Ed25519", hint=_HINT)
    return secret


def generate(*, comment: str = "", passphrase: bytes | None = None) -> GeneratedKey:
    """Make a new pair of keys, from the kernel's randomness.

    Args:
        comment: Stands in the public line; one line of printable characters.
        passphrase: Encrypts the private file (bcrypt, AES-256); none or empty leaves it in clear.

    Raises:
        UsageError: The comment has control characters.
    """
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    if not comment.isprintable():
        raise UsageError(f"a comment must be one line of printable text: {escape(comment)}")
    secret = Ed25519PrivateKey.generate()
    public = PublicKey(secret.public_key().public_bytes_raw(), comment.strip())
    return GeneratedKey(_encode_private(secret, passphrase), public)


def _encode_private(secret: Ed25519PrivateKey, passphrase: bytes | None) -> bytes:
    from cryptography.hazmat.primitives.serialization import (
        Encoding,
        KeySerializationEncryption,
        NoEncryption,
        PrivateFormat,
    )

    encryption: KeySerializationEncryption = NoEncryption()
    if passphrase:
        builder = PrivateFormat.OpenSSH.encryption_builder().kdf_rounds(_KDF_ROUNDS)
        encryption = builder.build(passphrase)
    return secret.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, encryption)
