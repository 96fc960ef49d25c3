"""The bench's own key: signing by library calls, where a process each would take minutes."""

import shutil
from collections.abc import Callable
from pathlib import Path

from appbundle.bundle import container
from appbundle.bundle.statement import Signed
from appbundle.layout import Layout
from appbundle.trust import allowed_signers, keys, sshsig

Sign = Callable[[bytes], bytes]
"""Gives a raw signature over a statement."""


def signer(workdir: Path) -> Sign:
    """Give the function that signs with the bench's key, which is made at the first call."""
    key = keys.load_private_key(key_file(workdir).read_bytes())
    return lambda statement: sshsig.sign_blob(statement, key)


def trust(root: Path, workdir: Path) -> None:
    """Make a node accept what the bench signs."""
    key = keys.parse_public_key(key_file(workdir).with_suffix(".pub").read_text())
    target = Layout(root).allowed_signers
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(allowed_signers.format_entry(key, names=["*"]))


def add_signature(bundle: Path, target: Path, sign: Sign) -> None:
    """Copy a bundle with one more signature; nothing else changes, so it is the same bundle."""
    with bundle.open("rb") as source, target.open("wb") as out:
        signed = container.read_head(source.read).signed
        signatures = (*signed.signatures, sign(signed.statement))
        out.write(container.encode_head(Signed(signed.statement, signatures)))
        shutil.copyfileobj(source, out, 1 << 20)


def key_file(workdir: Path) -> Path:
    path = workdir / "bench-key"
    if not path.exists():
        made = keys.generate(comment="bench")
        path.with_suffix(".pub").write_text(made.public.line + "\n")
        path.touch(mode=0o600)
        path.write_bytes(made.private)
    return path
