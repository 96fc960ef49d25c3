"""From signed bytes to a bundle that may be believed. Only this module makes a `VerifiedBundle`.

The order is the point: signatures are checked over the raw bytes of the statement before the
statement is read, and the digest of the compressed manifest before it is unpacked.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import InitVar, dataclass
from typing import TYPE_CHECKING, TypeAlias

from appbundle.bundle.statement import MAX_SIGNATURES, Signed, Statement, parse_statement
from appbundle.errors import (
    AppbError,
    BadSignatureError,
    CorruptError,
    ExpiredKeyError,
    KeyNotAllowedError,
    ThresholdError,
    UnknownKeyError,
    UnsignedError,
)
from appbundle.names import escape
from appbundle.trust import sshsig
from appbundle.trust.keys import PublicKey
from appbundle.trust.patterns import matches_list

if TYPE_CHECKING:
    from appbundle.bundle.manifest import Manifest
    from appbundle.trust.allowed_signers import AllowedSigner

_TOKEN = object()
"""Nobody outside this module has it, so nobody outside makes the two classes that ask for it."""

_Lines: TypeAlias = "tuple[AllowedSigner, ...]"


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustPolicy:
    """What a node accepts.

    Args:
        signers: The usable lines of its allowed_signers file; a key may stand in several.
        thresholds: Lists of patterns of apps' names, each with the number of distinct keys that
            must have signed; the greatest of those that match counts, and one where none does.
    """

    signers: tuple[AllowedSigner, ...]
    thresholds: tuple[tuple[str, int], ...] = ()

    def threshold(self, name: str) -> int:
        """How many distinct keys must have signed a bundle of this app."""
        asked = [number for names, number in self.thresholds if matches_list(name, names)]
        return max(1, *asked) if asked else 1


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthenticStatement:
    """A statement by keys that this node trusts for its app. Only `authenticate` makes one.

    Args:
        statement: What was signed.
        signed: The same as bytes, with all signatures, as the bundle carries them.
        signers: Fingerprints of the trusted keys that signed, each once, sorted.
        file: Where it comes from, for messages.
    """

    statement: Statement
    signed: Signed
    signers: tuple[str, ...]
    file: str
    token: InitVar[object]

    def __post_init__(self, token: object) -> None:
        """Refuse to be made elsewhere."""
        _check_token(token)


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedBundle:
    """A manifest that trusted keys vouch for. Only `open_manifest` makes one.

    Args:
        statement: What was signed.
        manifest: Whose digest it names, and which breaks no rule.
        manifest_frame: The manifest as the bundle carries it, compressed.
        signed: The statement as bytes, with all signatures, as the bundle carries them.
        signers: Fingerprints of the trusted keys that signed, each once, sorted.
    """

    statement: Statement
    manifest: Manifest
    manifest_frame: bytes
    signed: Signed
    signers: tuple[str, ...]
    token: InitVar[object]

    def __post_init__(self, token: object) -> None:
        """Refuse to be made elsewhere."""
        _check_token(token)


def _check_token(token: object) -> None:
    if token is not _TOKEN:
        raise TypeError("only appbundle.trust.verify vouches for bundles")


def authenticate(
    statement: bytes,
    signatures: tuple[bytes, ...],
    policy: TrustPolicy,
    now: int,
    *,
    file: str,
) -> AuthenticStatement:
    """Check who signed a statement, and only then read it.

    Every signature must be well-formed and hold for the key that it names, so that no byte of a
    bundle can change unnoticed; those by keys that count for nothing here are then ignored.

    Args:
        statement: The signed bytes.
        signatures: Raw SSHSIG blobs.
        policy: What this node accepts.
        now: Seconds since the epoch.
        file: The bundle's name, for messages.

    Raises:
        UnsignedError: There is no signature.
        BadSignatureError: One is malformed or does not hold, whatever the others are.
        UnknownKeyError: None is by a key that this node knows.
        KeyNotAllowedError: Those that are, are not for bundles of this app.
        ExpiredKeyError: Those that are for it are not valid now.
        ThresholdError: Too few distinct keys are left.
        CorruptError: There are too many signatures, or the authentic statement is malformed.
    """
    file = escape(file)
    keys = _check_signatures(statement, signatures, file)
    known = {key: lines for key in keys if (lines := _lines_of(key, policy))}
    if not known:
        raise UnknownKeyError(
            f"{file} is signed by {_name(keys)}, which this node does not know",
            hint="if you trust whoever gave it to you: appb trust add KEYFILE --for NAME",
        )
    parsed = _parse_authentic(statement, file)
    good = _choose(known, parsed.name, now, file)
    asked = policy.threshold(parsed.name)
    if len(good) < asked:
        raise ThresholdError(
            f"{file} is signed by {len(good)} trusted key(s), this node asks for {asked} "
            f"for {parsed.name}: {_name(good)}",
            hint="get it signed by another trusted key: appb sign FILE --key KEYFILE",
        )
    return AuthenticStatement(
        statement=parsed,
        signed=Signed(statement, signatures),
        signers=tuple(sorted(key.fingerprint for key in good)),
        file=file,
        token=_TOKEN,
    )


def _check_signatures(
    statement: bytes, signatures: tuple[bytes, ...], file: str
) -> tuple[PublicKey, ...]:
    """Give the distinct keys that really signed, known or not."""
    if not signatures:
        raise UnsignedError(
            f"{file} is not signed",
            hint="get a signed one, or sign it yourself: appb sign FILE --key KEYFILE",
        )
    if len(signatures) > MAX_SIGNATURES:
        raise CorruptError(f"{file} carries more than {MAX_SIGNATURES} signatures")
    keys: dict[PublicKey, None] = {}
    for blob in signatures:
        try:
            signature = sshsig.parse(blob)
        except BadSignatureError as error:
            raise BadSignatureError(f"{file}: {error.what}", hint=error.hint) from error
        key = PublicKey(signature.public_key)
        if not sshsig.holds(signature, statement):
            raise BadSignatureError(
                f"{file}: the signature by {_name([key])} does not match its statement",
                hint="it was changed or damaged after it was signed: get it again from its source",
            )
        keys[key] = None
    return tuple(keys)


def _lines_of(key: PublicKey, policy: TrustPolicy) -> _Lines:
    return tuple(line for line in policy.signers if line.key == key)


def _parse_authentic(statement: bytes, file: str) -> Statement:
    try:
        return parse_statement(statement)
    except AppbError as error:
        raise CorruptError(f"{file}: {error.what}") from error


def _choose(known: Mapping[PublicKey, _Lines], name: str, now: int, file: str) -> list[PublicKey]:
    """Give the keys that count for this app now: for each, one line must grant all of it."""
    allowed = {
        key: mine for key, lines in known.items() if (mine := [x for x in lines if x.is_for(name)])
    }
    if not allowed:
        raise KeyNotAllowedError(
            f"{file} is signed by {_name(known)}, which this node does not trust for {name}"
            + _other_purposes(known),
            hint=f"if it should be trusted with that: appb trust add KEYFILE --for {name}",
        )
    good = [key for key, lines in allowed.items() if any(line.is_valid_at(now) for line in lines)]
    if not good:
        lines = [line for mine in allowed.values() for line in mine]
        raise ExpiredKeyError(
            f"{file} is signed by {_name(allowed)}, which is not valid now for {name}: "
            + _validity(lines),
            hint="get one with a newer signature, or check this machine's clock (date)",
        )
    return good


def _other_purposes(known: Mapping[PublicKey, _Lines]) -> str:
    """Say so if the only obstacle may be the namespaces option."""
    if any(line.is_for_bundles for lines in known.values() for line in lines):
        return ""
    return f" (its line in allowed_signers has namespaces without {sshsig.NAMESPACE})"


def _validity(lines: Sequence[AllowedSigner]) -> str:
    parts = []
    for line in lines:
        after = f"from {_show_time(line.valid_after)} " if line.valid_after is not None else ""
        before = f"until {_show_time(line.valid_before)}" if line.valid_before is not None else ""
        parts.append((after + before).strip())
    return "only " + ", or ".join(parts)


def _show_time(seconds: int) -> str:
    from datetime import UTC, datetime

    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S} UTC"


def _name(keys: Iterable[PublicKey]) -> str:
    return "key " + ", ".join(key.fingerprint for key in keys)


def open_manifest(authentic: AuthenticStatement, frame: bytes) -> VerifiedBundle:
    """Check the manifest's frame against an authentic statement, and only then unpack and read it.

    Args:
        authentic: From `authenticate`.
        frame: The compressed frame, whole.

    Raises:
        CorruptError: Length or digest differ, it does not unpack to what was signed, or it is
            another app's, version's or release's (`ManifestError` if it breaks a rule itself).
    """
    # Unpacking and reading are imports that `appb switch` never needs.
    import hashlib

    from appbundle.bundle.container import open_manifest_frame
    from appbundle.bundle.rules import read_manifest

    statement = authentic.statement
    digest = hashlib.sha256(frame).hexdigest()
    if len(frame) != statement.manifest_frame_size or digest != statement.manifest_frame_sha256:
        raise CorruptError(
            f"{authentic.file}: the manifest is not the one that was signed",
            hint="the file is damaged: get it again from its source",
        )
    manifest = read_manifest(
        open_manifest_frame(frame, size=statement.manifest_size, sha256=statement.manifest_sha256)
    )
    said = (statement.name, statement.version, statement.release)
    if (manifest.name, manifest.version, manifest.release) != said:
        raise CorruptError(
            f"{authentic.file}: the manifest is of {manifest.name} {manifest.version} release "
            f"{manifest.release}, the statement of {said[0]} {said[1]} release {said[2]}"
        )
    return VerifiedBundle(
        statement=statement,
        manifest=manifest,
        manifest_frame=frame,
        signed=authentic.signed,
        signers=authentic.signers,
        token=_TOKEN,
    )
