"""`appb publish`: bundle files into a repository's folder."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from appbundle.bundle.container import END_FRAME, encode_head, open_manifest_frame
from appbundle.bundle.statement import parse_statement
from appbundle.errors import ConflictError, KeyNotAllowedError, TrustError, UsageError
from appbundle.flows import authenticity
from appbundle.flows.context import Context
from appbundle.names import AppName, Digest, Version
from appbundle.repository import delegations, keys
from appbundle.repository.manifest_patch import make_patch
from appbundle.repository.publishing import folder, online
from appbundle.repository.publishing.draft import Draft, Outcome, changing
from appbundle.repository.publishing.folder import Folder
from appbundle.repository.release import Patch, Release, bundle_target, digest_prefix, patch_target
from appbundle.store import frames
from appbundle.store.source import BundleStream, open_source
from appbundle.trust import verify
from appbundle.trust.keys import PublicKey
from appbundle.trust.sshsig import Signer
from appbundle.trust.verify import VerifiedBundle

PATCHES_KEPT = 3
"""Newest releases of an app whose manifest is also there as a patch: others are rarely fetched."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """What was done.

    Args:
        releases: Each of the given files as the repository describes it now.
        changed: Whether anything is different from before.
        outcome: What readers see of it.
        root_sha256: Of the first root: what nodes are given.
        is_new: Whether the repository was made.
    """

    releases: tuple[Release, ...]
    changed: bool
    outcome: Outcome
    root_sha256: Digest
    is_new: bool


def publish(
    context: Context,
    paths: Sequence[str],
    *,
    where: Folder,
    channels: Sequence[str],
    signer: Signer,
) -> Published:
    """Add bundle files to a repository, or to further channels; the first use makes it.

    Args:
        paths: Bundle files, signed by the keys that the repository names for their apps.
        channels: Whose newest release they may become.
        signer: Signs the roles of the apps; in a new repository, and for apps that nobody signs
            for yet, also who may.

    Raises:
        ConflictError: A version, or its release number, is there with other content.
        TrustError: A bundle is not signed as it should be, or the signer may not sign for its app.
        CorruptError: A bundle is damaged.
    """
    with changing(
        where,
        now=context.now,
        purpose="publish",
        timeout_s=context.lock_timeout_s,
        waiting=context.waiting,
        may_be_new=True,
    ) as draft:
        is_new = draft.roles is None
        if is_new:
            _found(draft, signer)
        releases = tuple(_add(context, draft, path, channels, signer) for path in paths)
        changed = bool(draft.proposed)
        draft.sign(signer)
        outcome = draft.settle()
    return Published(
        releases=releases,
        changed=changed,
        outcome=outcome,
        root_sha256=folder.first_root_sha256(where),
        is_new=is_new,
    )


def _found(draft: Draft, signer: Signer) -> None:
    """Propose a repository's first root and targets."""
    online_key = online.make(draft.folder)
    draft.online = (online_key,)
    key = PublicKey(signer.public_key)
    draft.propose("root", delegations.first_root(key, online_key.public))
    draft.propose("targets", delegations.first_targets(online_key.public))


def _add(
    context: Context, draft: Draft, path: str, channels: Sequence[str], signer: Signer
) -> Release:
    """Copy a bundle into the folder, and propose that its app's role describes it."""
    context.report.step(f"publishing {path}")
    with open_source(path) as source:
        if not isinstance(source, BundleStream) or path == "-":
            raise UsageError("only a bundle file can be published", hint="appb pack DIR FILE")
        bundle = _open(context, draft, source, PublicKey(signer.public_key))
        statement, known = bundle.statement, draft.releases(bundle.statement.name)
        before = _find_before(bundle, known)
        target = bundle_target(statement.name, statement.version)
        size, sha256 = folder.put_target(draft.folder, target, _pieces(context, source, bundle))
    made = Release(
        app=statement.name,
        version=statement.version,
        release=statement.release,
        digest=statement.manifest_sha256,
        size=size,
        sha256=sha256,
        channels=tuple(sorted({*channels, *(before.channels if before else ())})),
        patch=before.patch if before else None,
    )
    if made != before:
        _propose(draft, known, made, bundle)
    return made


def _open(
    context: Context, draft: Draft, source: BundleStream, signer: PublicKey
) -> VerifiedBundle:
    """Check that a bundle is one that nodes will accept from this repository."""
    signed = source.signed()
    app = parse_statement(signed.statement).name
    _check_signer(draft, app, signer)
    try:
        authentic = verify.authenticate(
            signed.statement,
            signed.signatures,
            keys.policy(draft.targets, app),
            context.now,
            file=source.name,
        )
    except TrustError as error:
        raise type(error)(
            f"{source.name} is not signed by who signs for {app} in this repository",
            hint=f"appb sign FILE --key KEY, or change who that is: appb repo delegate DIR {app}",
        ) from error
    return authenticity.open_bundle(source, authentic)


def _check_signer(draft: Draft, app: AppName, signer: PublicKey) -> None:
    """Refuse a key that may not sign for an app; give it an app that nobody signs for."""
    delegations.check_app(app)
    if delegations.is_delegated(draft.targets, app):
        allowed = signer in draft.signers_of(app)
    elif allowed := signer in draft.signers_of("targets"):
        delegations.delegate(draft.propose_targets(), app, [signer], 1)
    if not allowed:
        raise KeyNotAllowedError(
            f"{signer.fingerprint} may not sign for {app} in this repository",
            hint=f"whoever keeps it can say so: appb repo delegate DIR {app} --to KEY.pub",
        )


def _find_before(bundle: VerifiedBundle, known: Mapping[Version, Release]) -> Release | None:
    """Find what is published of the same version, which must be the same bundle."""
    statement = bundle.statement
    before = known.get(statement.version)
    if before and before.digest != statement.manifest_sha256:
        raise ConflictError(
            f"{statement.name} {statement.version} is published with other content",
            hint="a release never changes: give it another version and release number",
        )
    for each in known.values():
        if each.release == statement.release and each.version != statement.version:
            raise ConflictError(
                f"{statement.name} {each.version} is release {each.release} already",
                hint="give every release a number of its own",
            )
    return before


def _pieces(context: Context, source: BundleStream, bundle: VerifiedBundle) -> Iterator[bytes]:
    """Give a bundle file's bytes, each checked before it is given."""
    yield encode_head(bundle.signed)
    yield bundle.manifest_frame
    yield from frames.checked(source, bundle.manifest, progress=context.report.advance)
    source.finish()
    yield END_FRAME


def _propose(
    draft: Draft, known: Mapping[Version, Release], made: Release, bundle: VerifiedBundle
) -> None:
    """Propose an app's role with one more release, and a patch from the one before it."""
    releases = {**known, made.version: made}
    in_order = sorted(releases.values(), key=lambda each: each.release)
    before, after = in_order[: in_order.index(made)], in_order[in_order.index(made) + 1 :]
    if before and made.patch is None and len(after) < PATCHES_KEPT:
        releases[made.version] = replace(made, patch=_make_patch(draft, before[-1], bundle))
    for old in in_order[:-PATCHES_KEPT]:
        releases[old.version] = replace(releases[old.version], patch=None)
    summary = bundle.manifest.summary if not after else draft.summary(made.app)
    draft.propose_releases(made.app, releases, summary)


def _make_patch(draft: Draft, before: Release, bundle: VerifiedBundle) -> Patch | None:
    """Publish a manifest as what changed since the release before; None if that is not shorter."""
    target = patch_target(bundle.statement.name, bundle.statement.version, before.digest)
    patch = make_patch(
        _read_manifest(draft.folder, before),
        open_manifest_frame(
            bundle.manifest_frame,
            size=bundle.statement.manifest_size,
            sha256=bundle.statement.manifest_sha256,
        ),
    )
    if len(patch) >= len(bundle.manifest_frame):
        return None
    size, sha256 = folder.put_target(draft.folder, target, [patch])
    return Patch(previous=digest_prefix(before.digest), size=size, sha256=sha256)


def _read_manifest(where: Folder, release: Release) -> bytes:
    """Read a published bundle's manifest; its digest is what the app's role says."""
    with open_source(str(where.target(release.target, release.sha256))) as source:
        statement = parse_statement(source.signed().statement)
        return open_manifest_frame(
            source.manifest_frame(statement.manifest_frame_size),
            size=statement.manifest_size,
            sha256=release.digest,
        )
