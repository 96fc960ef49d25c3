"""From a source to a verified bundle: the order in which bytes may be believed."""

from dataclasses import dataclass

from appbundle.bundle.statement import Signed
from appbundle.errors import BadSignatureError, CorruptError, TrustError, UnsignedError
from appbundle.layout import Layout
from appbundle.names import Digest
from appbundle.repository import bindings
from appbundle.store import settings
from appbundle.store.source import Source
from appbundle.trust import allowed_signers, verify
from appbundle.trust.verify import AuthenticStatement, TrustPolicy, VerifiedBundle


@dataclass(frozen=True, slots=True)
class Policies:
    """Whose signatures count: those that one of these policies accepts.

    Args:
        own: The first that is asked.
        layout: The node whose repositories are asked if that refuses; None for none.
    """

    own: TrustPolicy
    layout: Layout | None = None


def policies(layout: Layout) -> Policies:
    """What this node accepts: by its own two files, or as its repositories say of their apps."""
    return Policies(own_policy(layout), layout)


def own_policy(layout: Layout) -> TrustPolicy:
    """What this node accepts by its own two files."""
    return TrustPolicy(
        signers=allowed_signers.parse(settings.read_allowed_signers(layout)),
        thresholds=tuple((t.apps, t.keys) for t in settings.read_node_settings(layout).threshold),
    )


def check(signed: Signed, trusted: Policies, *, now: int, file: str) -> AuthenticStatement:
    """Check who signed a statement; of two refusals the node's own counts.

    Raises:
        TrustError: It is not by whom it should be.
    """
    try:
        return verify.authenticate(signed.statement, signed.signatures, trusted.own, now, file=file)
    except (UnsignedError, BadSignatureError):
        raise
    except TrustError as error:
        if trusted.layout is None or not bindings.is_any(trusted.layout):
            raise
        # Whoever has no repositories does not pay for the import of TUF.
        from appbundle.repository import remembered

        others = remembered.policy(trusted.layout)
        try:
            return verify.authenticate(signed.statement, signed.signatures, others, now, file=file)
        except TrustError:
            raise error from None


def authenticate(
    source: Source, trusted: Policies, *, now: int, digest: Digest | None = None
) -> AuthenticStatement:
    """Read a bundle's statement and check its signatures.

    Args:
        digest: Of the only manifest that it may have, if somebody trusted said so.

    Raises:
        TrustError: It is not by whom it should be.
        CorruptError: It is another bundle.
    """
    authentic = check(source.signed(), trusted, now=now, file=source.name)
    if digest is not None and authentic.statement.manifest_sha256 != digest:
        raise CorruptError(f"{source.name} is another bundle than the repository says")
    return authentic


def open_bundle(source: Source, authentic: AuthenticStatement) -> VerifiedBundle:
    """Read the manifest that an authentic statement vouches for."""
    frame = source.manifest_frame(authentic.statement.manifest_frame_size)
    return verify.open_manifest(authentic, frame)
