"""Keys and signatures of TUF metadata: OpenSSH's Ed25519 keys, whoever holds them.

A key's name inside metadata is the first eight digits of the SHA-256 of its 32 bytes. It only has
to be unique within a file, and is short because it stands there once an app.
"""

import hashlib
from collections.abc import Iterable, Sequence
from typing import Any

from securesystemslib.exceptions import UnverifiedSignatureError
from securesystemslib.signer import Key, Signature, SSlibKey
from tuf.api.metadata import Metadata, Root, Targets

from appbundle.errors import CorruptError
from appbundle.names import AppName, escape
from appbundle.trust.allowed_signers import AllowedSigner
from appbundle.trust.keys import PublicKey
from appbundle.trust.sshsig import Signer
from appbundle.trust.verify import TrustPolicy

_TYPE = "ed25519"


def key_id(key: PublicKey) -> str:
    """A key's name inside metadata."""
    return hashlib.sha256(key.raw).hexdigest()[:8]


def encode_key(key: PublicKey) -> Key:
    """Give a key as metadata have it."""
    return SSlibKey(key_id(key), _TYPE, _TYPE, {"public": key.raw.hex()})


def read_key(key: Key) -> PublicKey:
    """Read a key out of verified metadata.

    Raises:
        CorruptError: It is not Ed25519.
    """
    try:
        raw = bytes.fromhex(key.keyval["public"])
    except (KeyError, TypeError, ValueError):
        raw = b""
    if key.keytype != _TYPE or key.scheme != _TYPE or len(raw) != 32:
        raise CorruptError(f"the repository names a key that is not Ed25519: {escape(key.keyid)}")
    return PublicKey(raw)


def keys_of(delegator: Root | Targets, role: str) -> tuple[PublicKey, ...]:
    """The keys that may sign a role, each once; none if there is no such role."""
    try:
        keyids = delegator.get_delegated_role(role).keyids
        found = [read_key(delegator.get_key(each)) for each in keyids]
    except ValueError:
        return ()
    return tuple(dict.fromkeys(found))


def threshold_of(delegator: Root | Targets, role: str) -> int:
    """How many of its keys must sign a role."""
    return int(delegator.get_delegated_role(role).threshold)


def policy(targets: Targets, app: AppName) -> TrustPolicy:
    """What the repository accepts as a bundle of an app: the keys of its role, and how many."""
    keys = keys_of(targets, app)
    return policy_of(app, keys, threshold_of(targets, app)) if keys else TrustPolicy(signers=())


def policy_of(app: AppName, keys: Sequence[PublicKey], threshold: int) -> TrustPolicy:
    """The same, of keys and a number that are known."""
    signers = [AllowedSigner(line=at, names=app, key=key) for at, key in enumerate(keys, 1)]
    return TrustPolicy(signers=tuple(signers), thresholds=((app, threshold),))


def sign(metadata: Metadata[Any], signers: Iterable[Signer]) -> None:
    """Add signatures to metadata; older ones by other keys stay."""
    signed = metadata.signed_bytes
    for each in signers:
        keyid = key_id(PublicKey(each.public_key))
        metadata.signatures[keyid] = Signature(keyid, each.sign(signed).hex())


def count_signatures(delegator: Root | Targets, role: str, metadata: Metadata[Any]) -> int:
    """How many distinct keys of a role have signed metadata."""
    signed = metadata.signed_bytes
    return sum(_holds(metadata, key, signed) for key in keys_of(delegator, role))


def is_signed(delegator: Root | Targets, role: str, metadata: Metadata[Any]) -> bool:
    """Whether enough distinct keys of a role have signed metadata."""
    try:
        return count_signatures(delegator, role, metadata) >= threshold_of(delegator, role)
    except ValueError:
        return False


def _holds(metadata: Metadata[Any], key: PublicKey, signed: bytes) -> bool:
    signature = metadata.signatures.get(key_id(key))
    if signature is None:
        return False
    try:
        encode_key(key).verify_signature(signature, signed)
    except UnverifiedSignatureError:
        return False
    return True
