"""Who signed, and what the end of the file says. docs/security.md, rows 30, 32-34, 36."""

import struct
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from appbundle.bundle import container
from appbundle.bundle.statement import Signed
from appbundle.errors import DowngradeError
from appbundle.flows import install, remove
from appbundle.names import AppName, parse_ref
from appbundle.store import settings
from appbundle.trust import allowed_signers, sshsig
from appbundle.trust.keys import PrivateKey, PublicKey
from appbundle.trust.wire import string, uint32
from tests.bundles import NOW, WEB, Draft, Node, draft, new_key
from tests.hostile.refusal import assert_refused

Capsys = pytest.CaptureFixture[str]
DAY = 86_400


def with_signatures(node: Node, blobs: list[bytes], made: Draft | None = None) -> bytes:
    """A bundle's bytes with any blobs as its signatures."""
    made = made or draft(WEB)
    whole = made.encode()
    rest = whole[container.read_head(_reader(whole)).size :]
    return container.encode_head(Signed(made.papers()[0], tuple(blobs))) + rest


def _reader(content: bytes) -> container.Read:
    position = 0

    def read(size: int) -> bytes:
        nonlocal position
        piece = content[position : position + size]
        position += len(piece)
        return piece

    return read


def entry(key: PrivateKey, *names: str, after: int | None = None, before: int | None = None) -> str:
    """A line of allowed_signers."""
    return allowed_signers.format_entry(
        key.public, names=names or ("*",), valid_after=after, valid_before=before
    )


def test_stripped_signature_is_its_own_error(running: Node, capsys: Capsys) -> None:
    """Row 30: no signature is "unsigned", not "unknown" and never accepted."""
    path = running.write(draft(WEB))
    path.write_bytes(with_signatures(running, []))
    assert_refused(running, path, "unsigned", "is not signed", capsys=capsys)


def test_node_without_keys_accepts_nothing(node: Node, capsys: Capsys) -> None:
    """Row 30: where no key is trusted, nothing is."""
    node.layout.allowed_signers.unlink()
    assert_refused(node, node.write(draft(WEB)), "unknown-key", capsys=capsys)


def test_stranger_s_key_is_refused_by_fingerprint(
    running: Node, stranger: PrivateKey, capsys: Capsys
) -> None:
    """A key that the node does not know is named."""
    path = running.write(draft(WEB), stranger)
    assert_refused(running, path, "unknown-key", stranger.public.fingerprint, capsys=capsys)


def test_key_for_another_app_is_refused(running: Node, capsys: Capsys) -> None:
    """One vendor's key cannot replace another's app."""
    running.trust(entry(running.key, "mail", "web-*"))
    path = running.write(draft(WEB))
    assert_refused(running, path, "key-not-allowed", "for web", capsys=capsys)


@pytest.mark.parametrize(
    "validity",
    [{"before": NOW - DAY}, {"after": NOW + DAY}, {"after": NOW - 2 * DAY, "before": NOW - DAY}],
    ids=["over", "not-yet", "past-window"],
)
def test_key_outside_its_time_is_refused(
    running: Node, validity: dict[str, int], capsys: Capsys
) -> None:
    """valid-after and valid-before are honoured."""
    running.trust(entry(running.key, **validity))
    assert_refused(running, running.write(draft(WEB)), "expired-key", capsys=capsys)


def test_stranger_s_validity_does_not_lend_itself(
    running: Node, stranger: PrivateKey, capsys: Capsys
) -> None:
    """A key that is over counts no more because another known key is for another app."""
    running.trust(entry(running.key, before=NOW - DAY), entry(stranger, "mail"))
    path = running.write(draft(WEB), running.key, stranger)
    assert_refused(running, path, "expired-key", capsys=capsys)


def ask_for_two(node: Node) -> None:
    """Let the node ask for two keys for this app."""
    node.layout.node_settings.write_text('[[threshold]]\napps = "w*"\nkeys = 2\n')


def test_one_key_twice_is_one_key(running: Node, capsys: Capsys) -> None:
    """Row 34: two signatures by one key do not meet a threshold of two."""
    ask_for_two(running)
    path = running.write(draft(WEB), running.key, running.key)
    assert_refused(running, path, "too-few-signatures", "asks for 2", capsys=capsys)


def test_one_key_under_two_comments_is_one_key(running: Node, capsys: Capsys) -> None:
    """Row 34: neither do two lines of one key with different comments and patterns."""
    ask_for_two(running)
    twin = PrivateKey(PublicKey(running.key.public.raw, "another name"), running.key.secret)
    running.trust(entry(running.key), entry(twin, "web"))
    path = running.write(draft(WEB), running.key, twin)
    assert_refused(running, path, "too-few-signatures", capsys=capsys)


def test_stranger_does_not_count_for_a_threshold(
    running: Node, stranger: PrivateKey, capsys: Capsys
) -> None:
    """Row 34: only trusted keys count."""
    ask_for_two(running)
    path = running.write(draft(WEB), running.key, stranger)
    assert_refused(running, path, "too-few-signatures", capsys=capsys)


def test_two_keys_meet_a_threshold_of_two(running: Node, stranger: PrivateKey) -> None:
    """The control: two trusted keys are enough."""
    ask_for_two(running)
    running.trust(entry(running.key), entry(stranger, "web"))
    running.install(running.write(draft(WEB), running.key, stranger))


def blob_of(kind: bytes, key: bytes, signature: bytes) -> bytes:
    """An SSHSIG blob of any algorithm, with the namespace that bundles have."""
    return (
        b"SSHSIG"
        + uint32(1)
        + string(key)
        + string(sshsig.NAMESPACE.encode())
        + string(b"")
        + string(b"sha512")
        + string(string(kind) + string(signature))
    )


def rsa_blob(statement: bytes) -> bytes:
    """A right signature by an RSA key, as ssh-keygen would make it."""
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import padding, rsa
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    signature = key.sign(sshsig.signed_data(statement), padding.PKCS1v15(), hashes.SHA512())
    import base64

    line = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
    return blob_of(b"rsa-sha2-512", base64.b64decode(line.split()[1]), signature)


def ecdsa_blob(statement: bytes) -> bytes:
    """A right signature by a P-256 key."""
    import base64

    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    key = ec.generate_private_key(ec.SECP256R1())
    signature = key.sign(sshsig.signed_data(statement), ec.ECDSA(hashes.SHA512()))
    line = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
    return blob_of(b"ecdsa-sha2-nistp256", base64.b64decode(line.split()[1]), signature)


@dataclass(frozen=True)
class Confusion:
    """How a right signature is turned into one that confuses algorithms."""

    make: Callable[[bytes, PrivateKey], bytes]


def right(statement: bytes, key: PrivateKey) -> bytes:
    """The right signature."""
    return sshsig.sign_blob(statement, key)


def other_hash(statement: bytes, key: PrivateKey) -> bytes:
    """A right signature with SHA-256, which SSHSIG allows and bundles do not."""
    import hashlib

    data = b"SSHSIG" + string(sshsig.NAMESPACE.encode()) + string(b"") + string(b"sha256")
    data += string(hashlib.sha256(statement).digest())
    return right(statement, key).replace(string(b"sha512"), string(b"sha256"))[:-64] + key.sign(
        data
    )


def other_namespace(statement: bytes, key: PrivateKey) -> bytes:
    """A right signature for git commits."""
    import hashlib

    data = b"SSHSIG" + string(b"git") + string(b"") + string(b"sha512")
    data += string(hashlib.sha512(statement).digest())
    mine = string(sshsig.NAMESPACE.encode())
    return right(statement, key).replace(mine, string(b"git"))[:-64] + key.sign(data)


CONFUSIONS: dict[str, Callable[[bytes, PrivateKey], bytes]] = {
    "33-rsa": lambda statement, key: rsa_blob(statement),
    "33-ecdsa": lambda statement, key: ecdsa_blob(statement),
    "33-rsa-name-on-ed25519-key": lambda statement, key: blob_of(
        b"rsa-sha2-512", key.public.blob, key.sign(sshsig.signed_data(statement))
    ),
    "33-hmac-name": lambda statement, key: blob_of(b"hmac-sha2-512", key.public.blob, bytes(64)),
    "33-none": lambda statement, key: blob_of(b"none", key.public.blob, b""),
    "33-zero-signature": lambda statement, key: right(statement, key)[:-64] + bytes(64),
    "33-other-hash": other_hash,
    "33-other-namespace": other_namespace,
    "33-version-2": lambda statement, key: right(statement, key).replace(uint32(1), uint32(2), 1),
    "33-empty": lambda statement, key: b"",
    "33-short": lambda statement, key: right(statement, key)[:-1],
    "33-long": lambda statement, key: right(statement, key) + b"\0",
    "33-armored": lambda statement, key: sshsig.armor(right(statement, key)).encode(),
    "33-huge-length": lambda statement, key: b"SSHSIG" + uint32(1) + b"\xff" * 178,
    "33-over-something-else": lambda statement, key: right(statement + b"\n", key),
    "33-raw-ed25519": lambda statement, key: right(statement, key)[:-64] + key.sign(statement),
}


@pytest.mark.parametrize("beside", [False, True], ids=["alone", "beside-a-right-one"])
@pytest.mark.parametrize("make", CONFUSIONS.values(), ids=list(CONFUSIONS))
def test_confusing_signature_is_refused(
    running: Node, make: Callable[[bytes, PrivateKey], bytes], beside: bool, capsys: Capsys
) -> None:
    """Row 33: the bundle has no say in the algorithm; a bad signature is refused in any company."""
    statement = draft(WEB).papers()[0]
    blobs = [make(statement, running.key)]
    if beside:
        blobs.append(right(statement, running.key))
    path = running.write(draft(WEB))
    path.write_bytes(with_signatures(running, blobs))
    assert_refused(running, path, "bad-signature", capsys=capsys)


def test_too_many_signatures_are_refused(running: Node, capsys: Capsys) -> None:
    """Checking signatures costs time: there are at most sixteen."""
    made = draft(WEB)
    path = running.write(made)
    path.write_bytes(with_signatures(running, [right(made.papers()[0], running.key)] * 17))
    assert_refused(running, path, "corrupt", "more than 16 signatures", capsys=capsys)


def _area(whole: bytes) -> int:
    return len(container.PREAMBLE) + 8


def _patched(whole: bytes, at: int, new: bytes) -> bytes:
    return whole[:at] + new + whole[at + len(new) :]


AREAS: dict[str, Callable[[bytes], bytes]] = {
    "32-byte-behind": lambda whole: whole + b"\0",
    "32-bundle-behind": lambda whole: whole + whole,
    "32-end-twice": lambda whole: whole + container.END_FRAME,
    "32-megabyte-behind": lambda whole: whole + bytes(1 << 20),
    "32-cut": lambda whole: whole[:-1],
    "32-no-end": lambda whole: whole[: -len(container.END_FRAME)],
    "32-other-end": lambda whole: (
        whole[: -len(container.END_FRAME)] + container.compress(bytes(1024), level=1)
    ),
    "32-cut-in-payload": lambda whole: whole[: -len(container.END_FRAME) - 40],
    "32-cut-in-manifest": lambda whole: whole[: 9 + 2048 + 50],
    "32-only-head": lambda whole: whole[: 9 + 2048],
    "32-cut-in-head": lambda whole: whole[:1000],
    "32-empty": lambda whole: b"",
    "32-one-byte": lambda whole: whole[:1],
    "32-byte-before": lambda whole: b"\0" + whole,
    "32-head-twice": lambda whole: whole[: 9 + 2048] + whole,
    "preamble": lambda whole: _patched(whole, 0, b"\x50\x2a\x4d\x18"),
    "no-preamble": lambda whole: whole[9:],
    "area-size-zero": lambda whole: _patched(whole, 13, struct.pack("<I", 0)),
    "area-size-huge": lambda whole: _patched(whole, 13, struct.pack("<I", 0xFFFFFFF8)),
    "area-size-large": lambda whole: _patched(whole, 13, struct.pack("<I", 17 * 2048 - 8)),
    "area-one-step-more": lambda whole: _patched(
        whole[: 9 + 2048] + bytes(2048) + whole[9 + 2048 :], 13, struct.pack("<I", 2 * 2048 - 8)
    ),
    "statement-length": lambda whole: _patched(whole, _area(whole), struct.pack("<I", 1 << 31)),
    "padding": lambda whole: _patched(whole, 9 + 2047, b"x"),
    "zip": lambda whole: b"PK\3\4" + bytes(4000),
    "text": lambda whole: b"<html>not found</html>" * 300,
}


@pytest.mark.parametrize("change", AREAS.values(), ids=list(AREAS))
def test_file_that_begins_or_ends_otherwise_is_refused(
    running: Node, change: Callable[[bytes], bytes], capsys: Capsys
) -> None:
    """Row 32: the container has one form and an exact end."""
    path = running.write(draft(WEB))
    path.write_bytes(change(path.read_bytes()))
    assert_refused(running, path, "corrupt", capsys=capsys)


def test_downgrade_is_refused_with_both_numbers(running: Node, capsys: Capsys) -> None:
    """Row 36: a lower release than the highest accepted is refused; the numbers are named."""
    running.install(running.write(draft(WEB, version="3.0", release=3, since=3)))
    error = assert_refused(
        running,
        running.write(draft(WEB, version="2.0", release=2)),
        "downgrade",
        "release 2 of web",
        "release 3",
        capsys=capsys,
    )
    assert "--allow-downgrade" in error.hint


def test_downgrade_is_judged_by_release_and_not_by_version(running: Node, capsys: Capsys) -> None:
    """Row 36: version strings are never compared."""
    running.install(running.write(draft(WEB, version="1.0", release=3)))
    path = running.write(draft(WEB, version="99.0", release=2))
    assert_refused(running, path, "downgrade", capsys=capsys)


def test_floor_outlives_the_app(running: Node, capsys: Capsys) -> None:
    """Row 36: removing an app does not make its old releases acceptable again."""
    running.install(running.write(draft(WEB, version="3.0", release=3)))
    remove.remove(running.context, parse_ref("web"), purge=True)
    path = running.write(draft(WEB, version="2.0", release=2))
    assert_refused(running, path, "downgrade", capsys=capsys)


def test_refused_bundle_does_not_raise_the_floor(running: Node, capsys: Capsys) -> None:
    """Row 36: a bundle that turns out bad late cannot lock out the good ones."""
    made = draft(WEB, version="9.0", release=9)
    made.trailing = b"x"
    assert_refused(running, running.write(made), "corrupt", capsys=capsys)
    assert settings.accepted_release(running.layout, AppName("web")) == 0
    running.install(running.write(draft(WEB, version="2.0", release=2)))


def test_dry_run_does_not_raise_the_floor(running: Node) -> None:
    """Row 36: looking is free."""
    path = running.write(draft(WEB, version="9.0", release=9))
    install.plan(running.context, [str(path)])
    running.install(running.write(draft(WEB, version="2.0", release=2)))


def test_dry_run_refuses_a_downgrade(running: Node, capsys: Capsys) -> None:
    """Row 36: the dry run says what the real one would."""
    running.install(running.write(draft(WEB, version="3.0", release=3)))
    path = running.write(draft(WEB, version="2.0", release=2))
    with pytest.raises(DowngradeError):
        install.plan(running.context, [str(path)])


def test_downgrade_on_request_keeps_the_floor(running: Node, capsys: Capsys) -> None:
    """Row 36: --allow-downgrade is for this one bundle, not for ever."""
    running.install(running.write(draft(WEB, version="3.0", release=3)))
    path = running.write(draft(WEB, version="2.0", release=2))
    running.install(path, allow_downgrade=True)
    assert running.tree("2.0")
    path = running.write(draft(WEB, version="1.0", release=1))
    assert_refused(running, path, "downgrade", "release 3", capsys=capsys)


def test_same_version_with_other_content_is_refused(running: Node, capsys: Capsys) -> None:
    """A version is one content for ever."""
    path = running.write(draft({"other": WEB["bin/web"]}, version="0.9", release=1))
    assert_refused(running, path, "conflict", "installed with other content", capsys=capsys)


def test_fresh_key_s_right_bundle_installs(node: Node) -> None:
    """The control: nothing but trust was in the way."""
    other = new_key()
    node.trust(entry(other, "web", after=NOW - DAY, before=NOW + DAY))
    node.install(node.write(draft(WEB), other))
