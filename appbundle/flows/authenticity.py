"""From a source to a verified bundle: the order in which bytes may be believed."""

from appbundle.errors import CorruptError
from appbundle.layout import Layout
from appbundle.names import Digest
from appbundle.store import settings
from appbundle.store.source import Source
from appbundle.trust import allowed_signers, verify
from appbundle.trust.verify import AuthenticStatement, TrustPolicy, VerifiedBundle


def policy(layout: Layout) -> TrustPolicy:
    """What this node accepts, from its two files."""
    return TrustPolicy(
        signers=allowed_signers.parse(settings.read_allowed_signers(layout)),
        thresholds=tuple((t.apps, t.keys) for t in settings.read_node_settings(layout).threshold),
    )


def authenticate(
    source: Source, trusted: TrustPolicy, *, now: int, digest: Digest | None = None
) -> AuthenticStatement:
    """Read a bundle's statement and check its signatures.

    Args:
        digest: Of the only manifest that it may have, if somebody trusted said so.

    Raises:
        TrustError: It is not by whom it should be.
        CorruptError: It is another bundle.
    """
    signed = source.signed()
    authentic = verify.authenticate(
        signed.statement, signed.signatures, trusted, now, file=source.name
    )
    if digest is not None and authentic.statement.manifest_sha256 != digest:
        raise CorruptError(f"{source.name} is another bundle than the repository says")
    return authentic


def open_bundle(source: Source, authentic: AuthenticStatement) -> VerifiedBundle:
    """Read the manifest that an authentic statement vouches for."""
    frame = source.manifest_frame(authentic.statement.manifest_frame_size)
    return verify.open_manifest(authentic, frame)
