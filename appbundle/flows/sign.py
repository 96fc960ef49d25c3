"""`appb sign`, `key`, `pack`, `unpack`: signatures and keys, and a bundle's two forms."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from appbundle.bundle.audit import check_manifest_frame, check_stream
from appbundle.bundle.container import open_manifest_frame
from appbundle.bundle.manifest import Manifest
from appbundle.bundle.rules import read_manifest
from appbundle.bundle.statement import Signed, Statement, parse_statement
from appbundle.errors import ConflictError, CorruptError, NotFoundError, UsageError
from appbundle.flows import authenticity
from appbundle.flows.context import Context
from appbundle.store import bundle_file, frames, stage
from appbundle.store.source import BundleDirectory, BundleStream, Source, open_source
from appbundle.system import files
from appbundle.system.ssh_agent import Agent
from appbundle.trust import keys, sshsig
from appbundle.trust.keys import PublicKey

AskPassphrase = Callable[[str], str]
"""Asks the person at the terminal, with a prompt."""


def open_signer(key_file: str, ask: AskPassphrase) -> sshsig.Signer:
    """Find who signs: a private-key file, or ssh-agent for a public-key file.

    Args:
        key_file: A private key (encrypted or not), or `FILE.pub` of a key that the agent holds.
        ask: Called only for an encrypted key that the agent does not hold.

    Raises:
        NotFoundError: No such file, or the agent does not hold the key.
        UsageError: It is no Ed25519 key, or the passphrase is wrong.
    """
    content = bundle_file.read_small(key_file)
    if content.startswith(b"ssh-"):
        return _from_agent(keys.parse_public_key(content.decode("utf-8", "replace")))
    try:
        return keys.load_private_key(content)
    except keys.PassphraseNeededError:
        try:
            return _from_agent(keys.read_public_half(content))
        except NotFoundError:
            passphrase = ask(f"Passphrase for {key_file}: ").encode()
            return keys.load_private_key(content, passphrase=passphrase)


@dataclass(frozen=True, slots=True)
class AgentSigner:
    """A key that ssh-agent holds; a `Signer`."""

    agent: Agent
    key: PublicKey

    @property
    def public_key(self) -> bytes:
        """The public half, 32 bytes."""
        return self.key.raw

    def sign(self, data: bytes) -> bytes:
        """Let the agent sign; it answers with a type and the signature, as SSH's strings."""
        return self.agent.sign(self.key.blob, data)[-sshsig.SIGNATURE_SIZE :]


def _from_agent(key: PublicKey) -> AgentSigner:
    agent = Agent.from_environment()
    if agent is None:
        raise NotFoundError(
            f"{key.fingerprint} needs ssh-agent, and none is running", hint="ssh-add FILE"
        )
    if key.blob not in agent.identities():
        raise NotFoundError(
            f"ssh-agent does not hold {key.fingerprint}", hint="ssh-add FILE adds a key"
        )
    return AgentSigner(agent, key)


def new_key(path: str, *, comment: str, passphrase: str) -> PublicKey:
    """Make a key pair: `FILE` (mode 0600) and `FILE.pub`.

    Raises:
        ConflictError: One of them exists.
    """
    made = keys.generate(comment=comment, passphrase=passphrase.encode() or None)
    for target in (Path(path), Path(path + ".pub")):
        if target.exists():
            raise ConflictError(
                f"{target} exists", hint="choose another name; keys are never overwritten"
            )
    files.write_durably(Path(path), made.private, mode=0o600)
    files.write_durably(Path(path + ".pub"), f"{made.public.line}\n".encode())
    return made.public


def show_key(path: str) -> PublicKey:
    """Read the public half of a key file, private (also encrypted) or public."""
    content = bundle_file.read_small(path)
    if content.startswith(b"ssh-"):
        return keys.parse_public_key(content.decode("utf-8", "replace"))
    return keys.read_public_half(content)


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedBundle:
    """A bundle that has one more signature."""

    statement: Statement
    fingerprint: str
    signatures: int


def sign(context: Context, path: str, signer: sshsig.Signer) -> SignedBundle:
    """Check a whole bundle file and add a signature to it.

    Every frame, tar header and content is compared with the manifest first: whoever signs vouches
    for what tar unpacks as well as for what appb installs. Only the signature area changes.

    Raises:
        CorruptError: The bundle contradicts itself; nothing was signed.
        UsageError: It is no file, whose signature area could be replaced.
    """
    if path == "-":
        raise UsageError("a pipe cannot be signed", hint="write it to a file first")
    fingerprint = PublicKey(signer.public_key).fingerprint
    with open_source(path) as source:
        if not isinstance(source, BundleStream):
            raise UsageError(
                "a bundle directory is signed by packing it", hint="appb pack DIR FILE"
            )
        signed = source.signed()
        assert source.head is not None
        statement = parse_statement(signed.statement)
        frame = source.manifest_frame(statement.manifest_frame_size)
        manifest = _own_manifest(statement, frame)
        context.report.step(f"checking {source.name}")
        check_manifest_frame(manifest, frame)
        check_stream(manifest, frames.plain(source, manifest, progress=context.report.advance))
        source.finish()
        others = tuple(
            blob for blob in signed.signatures if sshsig.parse(blob).public_key != signer.public_key
        )
        again = Signed(signed.statement, (*others, sshsig.sign_blob(signed.statement, signer)))
        context.report.step("writing the signature")
        bundle_file.replace_head(Path(path), source.fd, old_size=source.head.size, signed=again)
    return SignedBundle(
        statement=statement, fingerprint=fingerprint, signatures=len(again.signatures)
    )


def _own_manifest(statement: Statement, frame: bytes) -> Manifest:
    """Open the manifest of a bundle that we ourselves are about to vouch for."""
    bundle_file.check_digest(frame, statement.manifest_frame_sha256, of="manifest frame")
    manifest = read_manifest(
        open_manifest_frame(frame, size=statement.manifest_size, sha256=statement.manifest_sha256)
    )
    named = (manifest.name, manifest.version, manifest.release)
    if named != (statement.name, statement.version, statement.release):
        raise CorruptError("the manifest is of another bundle than the statement says")
    return manifest


def unpack(context: Context, path: str, directory: str) -> Manifest:
    """Turn a trusted bundle into a bundle directory.

    Raises:
        ConflictError: The directory exists.
    """
    target = Path(directory)
    if target.exists():
        raise ConflictError(f"{directory} exists", hint="choose a directory that does not")
    policy = authenticity.policies(context.layout)
    with open_source(path) as source:
        bundle = authenticity.open_bundle(
            source, authenticity.authenticate(source, policy, now=context.now)
        )
        context.report.step(f"unpacking {source.name}")
        temporary = target.with_name(f".{target.name}.unpacking")
        files.remove_tree(temporary)
        try:
            stage.unpack_tree(temporary, bundle, source, progress=context.report.advance)
            bundle_file.publish_directory(temporary, target)
        except OSError as error:
            raise files.translate_os_error(error, f"unpacking {source.name}") from error
        finally:
            files.remove_tree(temporary)
    return bundle.manifest


def pack(context: Context, directory: str, path: str) -> Statement:
    """Turn a bundle directory back into the very bundle file that it came from.

    Raises:
        CorruptError: A file differs from the manifest, or this libzstd compresses otherwise than
            the one that made the bundle, so that the signed digests cannot be met.
    """
    with open_source(directory) as source:
        if not isinstance(source, BundleDirectory):
            raise UsageError(f"{directory} is not a directory", hint="appb pack DIR FILE")
        signed, statement, manifest, frame = _papers(source)
        context.report.step(f"packing {source.name}")
        stage.check_same_paths(source, manifest)
        bundle_file.write_packed(
            Path(path), source.fd, signed, frame, manifest, progress=context.report.advance
        )
    return statement


def _papers(source: Source) -> tuple[Signed, Statement, Manifest, bytes]:
    signed = source.signed()
    statement = parse_statement(signed.statement)
    frame = source.manifest_frame(statement.manifest_frame_size)
    return signed, statement, _own_manifest(statement, frame), frame


def describe_signatures(signed: Signed) -> list[dict[str, Any]]:
    """Who has signed, for `info`."""
    parsed = [sshsig.parse(blob) for blob in signed.signatures]
    return [
        {"fingerprint": PublicKey(each.public_key).fingerprint, "type": "ssh-ed25519"}
        for each in parsed
    ]


def nth_signature(signed: Signed, number: int) -> str:
    """A signature as the file that `ssh-keygen -Y verify -s` reads; the first has number 1."""
    if not 1 <= number <= len(signed.signatures):
        raise NotFoundError(f"the bundle has {len(signed.signatures)} signatures, no {number}.")
    return sshsig.armor(signed.signatures[number - 1])
