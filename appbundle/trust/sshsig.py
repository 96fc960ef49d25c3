"""SSH signatures: the one shape of them that a bundle carries. OpenSSH's PROTOCOL.sshsig.

Of all that the format allows, bundles use exactly this, and anything else is refused: version 1,
an Ed25519 key, the namespace `appb-bundle-v1`, nothing reserved, SHA-512. All fields but the key
and the signature proper are therefore constants, one signature has one encoding of 184 bytes, and
the bundle has no say in which algorithm is used.
"""

import binascii
from dataclasses import dataclass
from typing import Protocol

from appbundle.errors import AppbError, BadSignatureError
from appbundle.names import escape
from appbundle.trust.wire import string, uint32

NAMESPACE = "appb-bundle-v1"
PUBLIC_KEY_SIZE = 32
SIGNATURE_SIZE = 64

_MAGIC = b"SSHSIG"
_KEY_TYPE = string(b"ssh-ed25519")
_PURPOSE = string(NAMESPACE.encode())
_RESERVED = string(b"")
_HASH = string(b"sha512")

# What a blob consists of: constants, each with the complaint if it is anything else, and lengths
# of the two parts that vary.
_LAYOUT: tuple[tuple[bytes, str] | int, ...] = (
    (_MAGIC, "it is not an SSH signature"),
    (uint32(1), "its format is not version 1"),
    (
        uint32(len(_KEY_TYPE) + 4 + PUBLIC_KEY_SIZE) + _KEY_TYPE + uint32(PUBLIC_KEY_SIZE),
        "it is not made by an Ed25519 key",
    ),
    PUBLIC_KEY_SIZE,
    (_PURPOSE, f"it is not made in the namespace {NAMESPACE}"),
    (_RESERVED, "its reserved field is not empty"),
    (_HASH, "it is not made with SHA-512"),
    (
        uint32(len(_KEY_TYPE) + 4 + SIGNATURE_SIZE) + _KEY_TYPE + uint32(SIGNATURE_SIZE),
        "its algorithm is not Ed25519",
    ),
    SIGNATURE_SIZE,
)

_BEGIN = "-----BEGIN SSH SIGNATURE-----\n"
_END = "-----END SSH SIGNATURE-----\n"
_LINE_LENGTH = 70
_HINT = f"ssh-keygen -Y sign -n {NAMESPACE} -f KEYFILE makes such a signature, with an Ed25519 key"


class Signer(Protocol):
    """Whatever can sign: a private key from a file, or one that stays in an agent."""

    @property
    def public_key(self) -> bytes:
        """The Ed25519 public key, 32 bytes."""

    def sign(self, data: bytes) -> bytes:
        """Give the Ed25519 signature of data, 64 bytes."""


@dataclass(frozen=True, slots=True)
class Signature:
    """A signature that has the right shape; nothing is said about whether it holds.

    Args:
        public_key: Of whom it claims to be: 32 bytes, which any stranger can write.
        signature: The Ed25519 signature proper, 64 bytes.
    """

    public_key: bytes
    signature: bytes


def encode(signature: Signature) -> bytes:
    """Write a signature as the raw blob that a bundle carries."""
    variable = iter((signature.public_key, signature.signature))
    return b"".join(next(variable) if isinstance(part, int) else part[0] for part in _LAYOUT)


def parse(blob: bytes) -> Signature:
    """Read a raw signature blob.

    Raises:
        BadSignatureError: It is anything that `encode` would not have written; says what.
    """
    position = 0
    variable = []
    for part in _LAYOUT:
        if isinstance(part, int):
            end = position + part
            variable.append(blob[position:end])
        else:
            constant, complaint = part
            end = position + len(constant)
            if blob[position:end] != constant:
                raise _malformed(complaint)
        position = end
    if len(blob) != position:
        raise _malformed("its length is wrong")
    public_key, signature = variable
    return Signature(public_key, signature)


def _malformed(complaint: str) -> BadSignatureError:
    return BadSignatureError(f"not a signature that a bundle may carry: {complaint}", hint=_HINT)


def signed_data(message: bytes) -> bytes:
    """Give the bytes over which the Ed25519 signature of a message is made (PROTOCOL.sshsig, 3)."""
    import hashlib

    return _MAGIC + _PURPOSE + _RESERVED + _HASH + string(hashlib.sha512(message).digest())


def holds(signature: Signature, message: bytes) -> bool:
    """Whether a signature is over this message and by the key that it names.

    This says nothing about trust: anybody can name their own key.
    """
    # Ten milliseconds of imports, which commands that verify nothing should not pay.
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    key = Ed25519PublicKey.from_public_bytes(signature.public_key)
    try:
        key.verify(signature.signature, signed_data(message))
    except InvalidSignature:
        return False
    return True


def sign_blob(message: bytes, signer: Signer) -> bytes:
    """Sign a message.

    Args:
        message: A statement's bytes.
        signer: A private key, or an agent's.

    Returns:
        The raw blob, checked: an agent or a broken memory cannot make us write a bad one.

    Raises:
        AppbError: What the signer gave is not a signature by its own key.
    """
    made = Signature(signer.public_key, signer.sign(signed_data(message)))
    if len(made.signature) != SIGNATURE_SIZE or not holds(made, message):
        raise AppbError("the key (or the agent that holds it) made a wrong signature")
    return encode(made)


def armor(blob: bytes) -> str:
    """Write a blob as text, byte for byte as `ssh-keygen -Y sign` does."""
    encoded = binascii.b2a_base64(blob, newline=False).decode()
    lines = [encoded[at : at + _LINE_LENGTH] for at in range(0, len(encoded), _LINE_LENGTH)]
    return _BEGIN + "".join(f"{line}\n" for line in lines) + _END


def unarmor(text: str) -> bytes:
    """Read the text that `armor` or `ssh-keygen -Y sign` wrote.

    Returns:
        The raw blob; `parse` says whether it is one for a bundle.

    Raises:
        BadSignatureError: It is anything else, even by a blank.
    """
    body = text.removeprefix(_BEGIN).removesuffix(_END)
    try:
        blob = binascii.a2b_base64(body.replace("\n", "").encode(), strict_mode=True)
    except ValueError as error:
        raise _not_armored(text) from error
    # One blob has one text: no other line length, no missing header, no spare bits.
    if armor(blob) != text:
        raise _not_armored(text)
    return blob


def _not_armored(text: str) -> BadSignatureError:
    first_line = escape(text.partition("\n")[0])
    return BadSignatureError(f"this is not an SSH signature: {first_line}", hint=_HINT)
