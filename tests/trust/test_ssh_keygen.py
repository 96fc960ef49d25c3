"""What the real ssh-keygen makes is read here, and what is made here is accepted by it."""

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from appbundle.errors import BadSignatureError
from appbundle.trust import allowed_signers, keys, sshsig
from appbundle.trust.keys import KeyFileError, PrivateKey, WrongPassphraseError

pytestmark = pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="no ssh-keygen here")

STATEMENT = b"appb-bundle-v1\nname: nova-api\n"
NAMESPACE = "appb-bundle-v1"


def ssh_keygen(*argv: str | Path, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        ["ssh-keygen", *map(str, argv)],
        input=stdin,
        capture_output=True,
        timeout=60,
        check=False,
        env={"PATH": "/usr/bin:/bin", "TZ": "UTC", "HOME": "/nonexistent"},
    )


def succeed(*argv: str | Path, stdin: bytes = b"") -> bytes:
    done = ssh_keygen(*argv, stdin=stdin)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


def write_key(path: Path, *, passphrase: bytes | None = None) -> PrivateKey:
    made = keys.generate(comment="vendor", passphrase=passphrase)
    path.write_bytes(made.private)
    path.chmod(0o600)
    path.with_name(path.name + ".pub").write_text(made.public.line + "\n")
    return keys.load_private_key(made.private, passphrase=passphrase)


def test_ssh_keygen_verifies_our_signature(tmp_path: Path) -> None:
    """`-Y verify` accepts the signature under the line of `appb trust add`, for that app only."""
    key = write_key(tmp_path / "key")
    trusted = tmp_path / "allowed_signers"
    trusted.write_text(allowed_signers.format_entry(key.public, names=["nova-*"]))
    signature = tmp_path / "statement.sig"
    signature.write_text(sshsig.armor(sshsig.sign_blob(STATEMENT, key)))

    def verify(name: str, statement: bytes) -> bool:
        argv: list[str | Path] = [
            "-Y",
            "verify",
            "-f",
            trusted,
            "-I",
            name,
            "-n",
            NAMESPACE,
            "-s",
            signature,
        ]
        return ssh_keygen(*argv, stdin=statement).returncode == 0

    assert verify("nova-api", STATEMENT)
    assert not verify("glance", STATEMENT)
    assert not verify("nova-api", STATEMENT + b"x")
    argv: list[str | Path] = ["-Y", "check-novalidate", "-n", NAMESPACE, "-s", signature]
    assert b"Good" in succeed(*argv, stdin=STATEMENT)
    assert ssh_keygen(*argv, stdin=b"x").returncode != 0


@pytest.mark.parametrize("passphrase", [None, b"secret"])
def test_ssh_keygen_signs_with_our_key(tmp_path: Path, passphrase: bytes | None) -> None:
    """`-Y sign` with a key of ours gives, byte for byte, the armored signature that we give."""
    path = tmp_path / "key"
    key = write_key(path, passphrase=passphrase)
    if passphrase is not None:
        succeed("-p", "-q", "-P", passphrase.decode(), "-N", "", "-f", path)
    armored = succeed("-Y", "sign", "-q", "-n", NAMESPACE, "-f", path, stdin=STATEMENT).decode()
    blob = sshsig.sign_blob(STATEMENT, key)
    assert armored == sshsig.armor(blob)
    assert sshsig.unarmor(armored) == blob
    assert sshsig.holds(sshsig.parse(sshsig.unarmor(armored)), STATEMENT)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["-n", "file"], "namespace"),
        (["-n", NAMESPACE, "-O", "hashalg=sha256"], "SHA-512"),
    ],
)
def test_other_signatures_of_ssh_keygen_are_refused(
    tmp_path: Path, options: Sequence[str], complaint: str
) -> None:
    """A signature for another purpose, or with another hash, is well made but not for bundles."""
    path = tmp_path / "key"
    write_key(path)
    armored = succeed("-Y", "sign", "-q", *options, "-f", path, stdin=STATEMENT).decode()
    with pytest.raises(BadSignatureError, match=complaint):
        sshsig.parse(sshsig.unarmor(armored))


@pytest.mark.parametrize("key_type", ["rsa", "ecdsa"])
def test_other_algorithms_are_refused(tmp_path: Path, key_type: str) -> None:
    """Keys and signatures of other types are refused, though ssh-keygen takes them (attack 33)."""
    path = tmp_path / "key"
    succeed("-q", "-t", key_type, "-N", "", "-f", path)
    armored = succeed("-Y", "sign", "-q", "-n", NAMESPACE, "-f", path, stdin=STATEMENT).decode()
    with pytest.raises(BadSignatureError, match="Ed25519"):
        sshsig.parse(sshsig.unarmor(armored))
    with pytest.raises(KeyFileError, match=f"not Ed25519 but .*{key_type}"):
        keys.load_private_key(path.read_bytes())
    public = path.with_suffix(".pub").read_text()
    with pytest.raises(KeyFileError):
        keys.parse_public_key(public)
    assert allowed_signers.parse(f"* {public}") == ()


def test_our_public_half_is_ssh_keygens(tmp_path: Path) -> None:
    """`-y` and `-l` derive from our private file the line and fingerprint that we say."""
    key = write_key(tmp_path / "key")
    assert succeed("-y", "-f", tmp_path / "key").decode().strip() == key.public.line.removesuffix(
        " vendor"
    )
    listed = succeed("-l", "-f", tmp_path / "key.pub").decode().split()
    assert listed == ["256", key.public.fingerprint, "vendor", "(ED25519)"]


def test_our_encrypted_key_opens_in_ssh_keygen(tmp_path: Path) -> None:
    """Our encrypted file opens with its passphrase and with no other."""
    key = write_key(tmp_path / "key", passphrase=b"secret")
    public = succeed("-y", "-P", "secret", "-f", tmp_path / "key").decode()
    assert keys.parse_public_key(public) == key.public
    assert ssh_keygen("-y", "-P", "wrong", "-f", tmp_path / "key").returncode != 0


@pytest.mark.parametrize("cipher", ["aes256-ctr", "aes256-cbc", "aes256-gcm@openssh.com"])
def test_ssh_keygens_encrypted_key_opens(tmp_path: Path, cipher: str) -> None:
    """Encrypted files of ssh-keygen open with their passphrase, and with no other."""
    path = tmp_path / "key"
    succeed("-q", "-t", "ed25519", "-N", "s\u00e9cret", "-Z", cipher, "-C", "x", "-f", path)
    content = path.read_bytes()
    public = keys.parse_public_key(path.with_suffix(".pub").read_text())
    assert keys.load_private_key(content, passphrase="s\u00e9cret".encode()).public == public
    assert keys.read_public_half(content) == public
    with pytest.raises(WrongPassphraseError):
        keys.load_private_key(content, passphrase=b"secret")


def test_cipher_that_we_lack_is_said(tmp_path: Path) -> None:
    """A key that is encrypted in a way we lack is refused with the way out."""
    path = tmp_path / "key"
    cipher = "chacha20-poly1305@openssh.com"
    done = ssh_keygen("-q", "-t", "ed25519", "-N", "secret", "-Z", cipher, "-f", path)
    if done.returncode != 0:
        pytest.skip("this ssh-keygen does not write that cipher")
    with pytest.raises(KeyFileError, match="chacha20") as caught:
        keys.load_private_key(path.read_bytes(), passphrase=b"secret")
    assert "ssh-add" in caught.value.hint


def test_unencrypted_key_of_ssh_keygen_loads(tmp_path: Path) -> None:
    """A plain file of ssh-keygen loads and signs."""
    path = tmp_path / "key"
    succeed("-q", "-t", "ed25519", "-N", "", "-C", "a comment", "-f", path)
    key = keys.load_private_key(path.read_bytes())
    public = keys.parse_public_key(path.with_suffix(".pub").read_text())
    assert (key.public, public.comment) == (public, "a comment")
    assert sshsig.holds(sshsig.parse(sshsig.sign_blob(STATEMENT, key)), STATEMENT)


# `{}` is the key's type and text; the verdict is for nova-api at noon of 2026-06-01.
LINES = [
    "nova-api {}",
    "nova-* {} comment with words",
    "  \tnova-api\t {}\r",
    "nova-api2 {}",
    "glance,nova-api {}",
    "*,!nova-api {}",
    "!nova-api,* {}",
    "!glance,* {}",
    "!glance {}",
    "?ova-api {}",
    "nova?api,x {}",
    "nova-ap? {}",
    "n*a*i {}",
    "[n]ova-api {}",
    "NOVA-API {}",
    '"nova-api" {}',
    '"glance,nova-api" {}',
    '"nova-api"{}',
    'no"va-ap"i {}',
    '"nova-api {}',
    "# nova-api {}",
    "{}",
    "nova-api\f{}",
    'nova-api namespaces="appb-bundle-v1" {}',
    'nova-api namespaces="git,appb-*" {}',
    'nova-api NameSpaces="appb-bundle-v?" {}',
    'nova-api namespaces="git" {}',
    'nova-api namespaces="*,!appb-bundle-v1" {}',
    'nova-api namespaces="" {}',
    'nova-api namespaces="appb-bundle-v1\\"" {}',
    'nova-api namespaces="appb-bundle-v1",namespaces="git" {}',
    'nova-api namespaces="appb-bundle-v1 {}',
    "nova-api namespaces=appb-bundle-v1 {}",
    'nova-api namespaces="appb-bundle-v1", {}',
    'nova-api namespaces="appb-bundle-v1"{}',
    "nova-api cert-authority {}",
    'nova-api cert-authority,namespaces="appb-bundle-v1" {}',
    "nova-api no-touch-required {}",
    'nova-api valid-after="20260601" {}',
    'nova-api valid-after="20260601Z" {}',
    'nova-api valid-after="20260602Z" {}',
    'nova-api valid-after="202606011200Z" {}',
    'nova-api valid-after="20260601120000Z" {}',
    'nova-api valid-after="20260601120001Z" {}',
    'nova-api valid-before="20260601Z" {}',
    'nova-api valid-before="202606011200Z" {}',
    'nova-api valid-before="20260601115959Z" {}',
    'nova-api valid-before="20270101Z",valid-after="20260101Z" {}',
    'nova-api valid-before="20260101Z",valid-after="20270101Z" {}',
    'nova-api valid-after="20260101Z",valid-after="20270101Z" {}',
    'nova-api valid-before="2027" {}',
    'nova-api valid-before="20271301" {}',
    'nova-api valid-before="202712012460" {}',
    'nova-api valid-before="never" {}',
    'nova-api valid-before="19700101Z" {}',
    'nova-api valid-before="20270101Z",namespaces="appb-bundle-v1" {} x',
]
NOON = 1_780_315_200


def test_ssh_keygen_agrees_on_every_line(tmp_path: Path) -> None:
    """For each of many lines, right and wrong, ssh-keygen and we trust the key or do not, alike."""
    key = write_key(tmp_path / "key")
    signature = tmp_path / "sig"
    signature.write_text(sshsig.armor(sshsig.sign_blob(STATEMENT, key)))
    column = " ".join(key.public.line.split()[:2])
    trusted = tmp_path / "allowed_signers"
    options: list[str | Path] = [
        "-n",
        NAMESPACE,
        "-s",
        signature,
        "-O",
        "verify-time=20260601120000Z",
    ]
    for line in LINES:
        text = line.replace("{}", column) + "\n"
        trusted.write_text(text)
        theirs = ssh_keygen(
            "-Y", "verify", "-f", trusted, "-I", "nova-api", *options, stdin=STATEMENT
        )
        ours = any(
            signer.is_for("nova-api") and signer.is_valid_at(NOON)
            for signer in allowed_signers.parse(text)
        )
        assert ours is (theirs.returncode == 0), (line, theirs.stderr)
