"""The order in which bytes may be believed, and every way in which they are not."""

import dataclasses
import hashlib
from collections.abc import Iterator

import pytest

from appbundle.bundle.container import encode_manifest_frame
from appbundle.bundle.manifest import Manifest
from appbundle.bundle.rules import encode_manifest
from appbundle.bundle.statement import Statement, encode_statement, parse_statement
from appbundle.errors import (
    AppbError,
    BadSignatureError,
    CorruptError,
    ExpiredKeyError,
    KeyNotAllowedError,
    ManifestError,
    ThresholdError,
    TrustError,
    UnknownKeyError,
    UnsignedError,
)
from appbundle.names import AppName, Digest, Version
from appbundle.trust import allowed_signers, keys, sshsig, verify
from appbundle.trust.keys import PrivateKey
from appbundle.trust.verify import AuthenticStatement, TrustPolicy, VerifiedBundle

NOW = 1_800_000_000
FILE = "nova-api-34.0.0.bundle"


def make_key() -> PrivateKey:
    return keys.load_private_key(keys.generate().private)


ALICE, BOB, CAROL, MALLORY = (make_key() for _ in range(4))


def make_manifest(*, name: str = "nova-api", version: str = "34.0.0", release: int = 2) -> bytes:
    return encode_manifest(Manifest(format=1, name=name, version=version, release=release))


def make_frame(manifest: bytes) -> bytes:
    return encode_manifest_frame(manifest, mtime=0, level=3)


def make_statement(manifest: bytes, frame: bytes, *, name: str = "nova-api") -> bytes:
    return encode_statement(
        Statement(
            name=AppName(name),
            version=Version("34.0.0"),
            release=2,
            manifest_frame_size=len(frame),
            manifest_frame_sha256=Digest(hashlib.sha256(frame).hexdigest()),
            manifest_size=len(manifest),
            manifest_sha256=Digest(hashlib.sha256(manifest).hexdigest()),
        )
    )


MANIFEST = make_manifest()
FRAME = make_frame(MANIFEST)
STATEMENT = make_statement(MANIFEST, FRAME)


def sign(*signers: PrivateKey, statement: bytes = STATEMENT) -> tuple[bytes, ...]:
    return tuple(sshsig.sign_blob(statement, key) for key in signers)


def damage(blob: bytes) -> bytes:
    """Flip a bit of the signature proper."""
    return blob[:-1] + bytes([blob[-1] ^ 1])


def trust(
    *lines: tuple[str, PrivateKey], thresholds: tuple[tuple[str, int], ...] = ()
) -> TrustPolicy:
    """A policy from lines of names (and options) and whose key they are for."""
    text = "".join(f"{names} {key.public.line}\n" for names, key in lines)
    signers = allowed_signers.parse(text)
    assert len(signers) == len(lines)
    return TrustPolicy(signers=signers, thresholds=thresholds)


def authenticate(
    signatures: tuple[bytes, ...],
    policy: TrustPolicy,
    *,
    statement: bytes = STATEMENT,
    now: int = NOW,
) -> AuthenticStatement:
    return verify.authenticate(statement, signatures, policy, now, file=FILE)


def test_trusted_signature_is_accepted() -> None:
    """A statement signed by a key that may sign for the app is authentic, and says by whom."""
    authentic = authenticate(sign(ALICE), trust(("nova-*", ALICE)))
    assert authentic.statement == parse_statement(STATEMENT)
    assert authentic.signed.statement == STATEMENT
    assert authentic.signed.signatures == sign(ALICE)
    assert authentic.signers == (ALICE.public.fingerprint,)


def test_unsigned() -> None:
    """No signature is an error of its own, whatever the node trusts (attack 30)."""
    for policy in (trust(), trust(("*", ALICE))):
        with pytest.raises(UnsignedError, match="not signed"):
            authenticate((), policy)


def test_unknown_key() -> None:
    """A stranger's signature says whose it is and what to do about it."""
    for policy in (trust(), trust(("*", ALICE))):
        with pytest.raises(UnknownKeyError) as caught:
            authenticate(sign(MALLORY), policy)
        assert MALLORY.public.fingerprint in caught.value.what
        assert "appb trust add" in caught.value.hint


def test_key_for_other_apps() -> None:
    """One vendor's key cannot replace another vendor's app."""
    policy = trust(("glance,nova-*,!nova-api", ALICE))
    with pytest.raises(KeyNotAllowedError, match="nova-api") as caught:
        authenticate(sign(ALICE), policy)
    assert caught.value.hint.endswith("--for nova-api")


def test_key_for_other_purposes() -> None:
    """A key that may sign commits may not sign bundles, and the message says that."""
    with pytest.raises(KeyNotAllowedError, match="namespaces"):
        authenticate(sign(ALICE), trust(('nova-api namespaces="git"', ALICE)))


def test_signature_over_something_else() -> None:
    """A good signature by a trusted key over other bytes is a bad one here."""
    with pytest.raises(BadSignatureError, match=r"key SHA256:.* does not match"):
        authenticate(sign(ALICE, statement=STATEMENT + b"x"), trust(("*", ALICE)))


def test_signature_of_another_namespace() -> None:
    """A signature that the same key made for another purpose is not one for bundles."""
    wrong = sign(ALICE)[0].replace(b"appb-bundle-v1", b"appb-bundle-v2")
    with pytest.raises(BadSignatureError, match=f"{FILE}: .*namespace"):
        authenticate((wrong,), trust(("*", ALICE)))


@pytest.mark.parametrize("order", [1, -1])
def test_bad_signature_refuses_beside_a_good_one(order: int) -> None:
    """A bad signature refuses the bundle wherever it stands and whatever the others are."""
    good, other = sign(ALICE, BOB)
    for policy in (trust(("*", ALICE), ("*", BOB)), trust(("*", ALICE))):
        with pytest.raises(BadSignatureError):
            authenticate((good, damage(other))[::order], policy)


@pytest.mark.parametrize("order", [1, -1])
def test_good_signature_by_a_stranger_is_ignored_beside_a_trusted_one(order: int) -> None:
    """Further signatures, by keys that mean nothing here, do no harm and do not count."""
    authentic = authenticate(sign(ALICE, MALLORY)[::order], trust(("*", ALICE)))
    assert authentic.signers == (ALICE.public.fingerprint,)


def test_every_flipped_byte_is_refused() -> None:
    """No byte of statement or signatures can differ, be they a trusted key's or a stranger's."""
    signatures = sign(ALICE, MALLORY)
    policy = trust(("*", ALICE))
    for refused in _with_one_byte_flipped(STATEMENT, signatures):
        with pytest.raises(TrustError):
            authenticate(refused[1], policy, statement=refused[0])


def _with_one_byte_flipped(
    statement: bytes, signatures: tuple[bytes, ...]
) -> Iterator[tuple[bytes, tuple[bytes, ...]]]:
    parts = (statement, *signatures)
    for number, part in enumerate(parts):
        for index in range(len(part)):
            flipped = part[:index] + bytes([part[index] ^ 0x20]) + part[index + 1 :]
            changed = (*parts[:number], flipped, *parts[number + 1 :])
            yield changed[0], changed[1:]


def test_too_many_signatures() -> None:
    """Seventeen signatures are refused before any is looked at; sixteen are not."""
    policy = trust(("*", ALICE))
    blob = sign(ALICE)
    assert authenticate(blob * 16, policy).signers == (ALICE.public.fingerprint,)
    with pytest.raises(CorruptError, match="more than 16"):
        authenticate(blob * 17, policy)


def test_expired_and_not_yet_valid() -> None:
    """Outside its validity a key does not count; the message says when it would."""
    policy = trust(('* valid-after="20260101Z",valid-before="20270101Z"', ALICE))
    begin, end = 1_767_225_600, 1_798_761_600
    for now in (begin, end):
        authenticate(sign(ALICE), policy, now=now)
    for now in (begin - 1, end + 1):
        with pytest.raises(ExpiredKeyError, match=r"from 2026-01-01 .* until 2027-01-01"):
            authenticate(sign(ALICE), policy, now=now)


def test_expired_key_beside_a_valid_one() -> None:
    """An expired key's signature is ignored where another key's is enough."""
    policy = trust(('* valid-before="20200101Z"', ALICE), ("*", BOB))
    assert authenticate(sign(ALICE, BOB), policy).signers == (BOB.public.fingerprint,)


def test_one_line_must_grant_everything() -> None:
    """A key in two lines is valid only where one of them covers app, purpose and time at once."""
    now_glance = ("glance", ALICE)
    then_nova = ('nova-api valid-before="20200101Z"', ALICE)
    for_git = ('nova-api namespaces="git"', ALICE)
    with pytest.raises(ExpiredKeyError):
        authenticate(sign(ALICE), trust(now_glance, then_nova, for_git))
    policy = trust(now_glance, then_nova, ("nova-*", ALICE), for_git)
    assert authenticate(sign(ALICE), policy).signers == (ALICE.public.fingerprint,)


def test_threshold_counts_distinct_keys() -> None:
    """Two keys are asked for: one that signs twice or stands in two lines is one (attack 34)."""
    policy = trust(("*", ALICE), ("nova-api", ALICE), ("*", BOB), thresholds=(("nova-*", 2),))
    for signatures in (sign(ALICE), sign(ALICE, ALICE), sign(ALICE, MALLORY)):
        with pytest.raises(ThresholdError, match=r"by 1 trusted .* asks for 2"):
            authenticate(signatures, policy)
    both = authenticate(sign(BOB, ALICE, BOB), policy)
    assert both.signers == tuple(sorted(key.public.fingerprint for key in (ALICE, BOB)))


def test_threshold_does_not_count_keys_that_are_not_allowed_now() -> None:
    """A key that is expired, or is for other apps, does not help to reach a threshold."""
    policy = trust(
        ("*", ALICE), ('* valid-before="20200101Z"', BOB), ("glance", CAROL), thresholds=(("*", 2),)
    )
    with pytest.raises(ThresholdError, match="by 1 trusted"):
        authenticate(sign(ALICE, BOB, CAROL), policy)


@pytest.mark.parametrize(
    ("thresholds", "expected"),
    [
        ((), 1),
        ((("glance", 3),), 1),
        ((("nova-*", 2), ("*", 3)), 3),
        ((("*", 3), ("nova-*", 2)), 3),
        ((("*,!nova-api", 3),), 1),
        ((("*", 0),), 1),
        ((("*", -1),), 1),
    ],
)
def test_greatest_threshold_counts(thresholds: tuple[tuple[str, int], ...], expected: int) -> None:
    """Of several thresholds for one app the greatest counts, and never less than one key."""
    assert trust(thresholds=thresholds).threshold("nova-api") == expected


def test_statement_is_not_read_before_a_known_key_vouches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bytes that no known key signed never reach the parser."""

    def parse(raw: bytes) -> Statement:
        raise AssertionError("read before it was authenticated")

    monkeypatch.setattr(verify, "parse_statement", parse)
    policy = trust(("*", ALICE))
    for signatures in ((), sign(MALLORY), (damage(sign(ALICE)[0]),), (b"",)):
        with pytest.raises(TrustError):
            authenticate(signatures, policy)


@pytest.mark.parametrize(
    "statement",
    [b"", b"\0", STATEMENT + b"\n", STATEMENT[:-1], STATEMENT.replace(b"nova-api", b"-", 1)],
)
def test_malformed_statement_is_corrupt_even_if_signed(statement: bytes) -> None:
    """A trusted signature does not excuse a malformed statement."""
    with pytest.raises(CorruptError, match=FILE):
        authenticate(sign(ALICE, statement=statement), trust(("*", ALICE)), statement=statement)


def test_file_name_is_made_harmless() -> None:
    """A file's name cannot drive the terminal through an error."""
    with pytest.raises(UnsignedError) as caught:
        verify.authenticate(STATEMENT, (), trust(), NOW, file="x\x1b[2J\n")
    assert caught.value.what.isprintable()


def make_authentic(manifest: bytes, frame: bytes, *, name: str = "nova-api") -> AuthenticStatement:
    statement = make_statement(manifest, frame, name=name)
    return authenticate(sign(ALICE, statement=statement), trust(("*", ALICE)), statement=statement)


def test_manifest_is_opened() -> None:
    """The bundle has the manifest, and the exact bytes that were signed, to be kept beside it."""
    bundle = verify.open_manifest(make_authentic(MANIFEST, FRAME), FRAME)
    assert bundle.manifest.version == "34.0.0"
    assert bundle.manifest_frame == FRAME
    assert bundle.signed.statement == STATEMENT
    assert bundle.signed.signatures == sign(ALICE)
    assert bundle.signers == (ALICE.public.fingerprint,)


@pytest.mark.parametrize(
    "frame",
    [b"", FRAME[:-1], FRAME + b"\0", FRAME[:-1] + bytes([FRAME[-1] ^ 1]), bytes(len(FRAME))],
)
def test_frame_is_checked_before_it_is_unpacked(
    frame: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Compressed bytes of another length or digest never reach the decompressor."""

    def unpack(frame: bytes, *, size: int, sha256: Digest) -> bytes:
        raise AssertionError("unpacked before it was checked")

    monkeypatch.setattr("appbundle.bundle.container.open_manifest_frame", unpack)
    with pytest.raises(CorruptError, match="not the one that was signed"):
        verify.open_manifest(make_authentic(MANIFEST, FRAME), frame)


def test_signed_length_of_the_frame_counts() -> None:
    """A frame that has the signed digest but not the signed length is refused as well."""
    size = f"manifest-frame-size: {len(FRAME)}\n".encode()
    statement = STATEMENT.replace(size, b"manifest-frame-size: 1\n")
    authentic = authenticate(
        sign(ALICE, statement=statement), trust(("*", ALICE)), statement=statement
    )
    with pytest.raises(CorruptError, match="not the one that was signed"):
        verify.open_manifest(authentic, FRAME)


@pytest.mark.parametrize(
    "manifest",
    [
        make_manifest(name="nova-apj"),
        make_manifest(version="34.0.1"),
        make_manifest(release=3),
    ],
)
def test_manifest_must_be_of_what_the_statement_says(manifest: bytes) -> None:
    """Name, version and release stand in both; a difference is corrupt, though all is signed."""
    frame = make_frame(manifest)
    with pytest.raises(CorruptError, match="the manifest is of"):
        verify.open_manifest(make_authentic(manifest, frame), frame)


def test_signed_sizes_bound_the_decompression() -> None:
    """A frame that unpacks to more than the signed size is refused (attack 14)."""
    frame = make_frame(MANIFEST + bytes(1 << 20))
    with pytest.raises(CorruptError, match="signed size"):
        verify.open_manifest(make_authentic(MANIFEST, frame), frame)


def test_signed_manifest_that_breaks_rules_is_refused() -> None:
    """A trusted signature does not excuse a manifest that is malformed (attack 53)."""
    for manifest in (
        b"{}",
        MANIFEST + b" ",
        MANIFEST.replace(b'"release":2', b'"release":2,"release":2'),
    ):
        frame = make_frame(manifest)
        with pytest.raises(ManifestError):
            verify.open_manifest(make_authentic(manifest, frame), frame)


def test_only_trust_vouches() -> None:
    """Neither of the two classes that mean trust can be made elsewhere, not even by replacing."""
    authentic = make_authentic(MANIFEST, FRAME)
    bundle = verify.open_manifest(authentic, FRAME)
    with pytest.raises(TypeError):
        AuthenticStatement(
            statement=authentic.statement,
            signed=authentic.signed,
            signers=(),
            file=FILE,
            token=object(),
        )
    with pytest.raises(TypeError):
        VerifiedBundle(
            statement=bundle.statement,
            manifest=bundle.manifest,
            manifest_frame=FRAME,
            signed=bundle.signed,
            signers=(),
            token=None,
        )
    with pytest.raises((TypeError, ValueError)):
        dataclasses.replace(bundle, manifest_frame=b"")  # type: ignore[call-arg]


def test_every_refusal_says_what_to_do() -> None:
    """Each of the errors of trust has its own kind, says what is kept, and gives a hint."""
    expired = trust(('* valid-before="20200101Z"', ALICE))
    refused: list[AppbError] = []
    for signatures, policy in (
        ((), trust()),
        (sign(MALLORY), trust()),
        (sign(ALICE), trust(("glance", ALICE))),
        ((damage(sign(ALICE)[0]),), trust(("*", ALICE))),
        (sign(ALICE), expired),
        (sign(ALICE), trust(("*", ALICE), thresholds=(("*", 2),))),
    ):
        with pytest.raises(TrustError) as caught:
            authenticate(signatures, policy)
        refused.append(caught.value)
    assert len({error.kind for error in refused}) == len(refused)
    assert {error.exit_code for error in refused} == {20}
    assert all(error.kept and error.hint and FILE in error.what for error in refused)
