"""`appb repo refresh|sign|delegate|rotate`: what keeps a repository valid, and who may sign."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime

from appbundle.errors import KeyNotAllowedError, NotFoundError, TrustError, UsageError
from appbundle.flows.context import Context
from appbundle.names import AppName, Version
from appbundle.repository import delegations, keys
from appbundle.repository.publishing import online, upkeep
from appbundle.repository.publishing.draft import Draft, Outcome, changing
from appbundle.repository.publishing.folder import Folder
from appbundle.repository.publishing.roles import Roles, read_roles
from appbundle.store.source import open_source
from appbundle.trust import verify
from appbundle.trust.keys import PublicKey
from appbundle.trust.sshsig import Signer


@dataclass(frozen=True, slots=True, kw_only=True)
class Refreshed:
    """What a refresh did.

    Args:
        outcome: Of what was waiting for the online key.
        expires: Until when readers accept what there is now.
        expiring: What people have to sign anew soon, with the time when it ends.
        removed: Files that nobody was led to any more.
    """

    outcome: Outcome
    expires: datetime
    expiring: dict[str, datetime]
    removed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Signed:
    """What a signer did.

    Args:
        roles: What was signed.
        outcome: What became of it.
        unsigned: Releases, by app, whose bundle is not signed by those who now sign for the app.
    """

    roles: tuple[str, ...]
    outcome: Outcome
    unsigned: dict[AppName, tuple[Version, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Holders:
    """The keys that are to hold a role.

    Args:
        keys: All of them.
        threshold: How many must sign.
    """

    keys: tuple[PublicKey, ...]
    threshold: int


def refresh(context: Context, *, where: Folder) -> Refreshed:
    """Make what the online key signs valid for longer; publish what waited for it.

    Raises:
        NotFoundError: The online key is not here.
    """
    with _changing(context, where, "refresh") as draft:
        if not draft.is_online(with_new_root=False):
            raise NotFoundError(
                f"the online key of {where.path} is not in {where.online_key}",
                hint="--online-key FILE says where it is; appb repo rotate makes another",
            )
        outcome = draft.settle()
        if not outcome.published:
            draft.publication.refresh()
        roles = _read(where)
        return Refreshed(
            outcome=outcome,
            expires=min(roles.timestamp.signed.expires, roles.snapshot.signed.expires),
            expiring=upkeep.expiring(roles, context.now),
            removed=upkeep.collect(roles, context.now),
        )


def sign(context: Context, *, where: Folder, signer: Signer) -> Signed:
    """Sign all that waits for this key: changes, and what ends soon.

    Raises:
        KeyNotAllowedError: It may sign nothing in this repository.
    """
    with _changing(context, where, "sign") as draft:
        assert draft.roles
        key = PublicKey(signer.public_key)
        mine = [name for name in _every(draft) if key in draft.signers_of(name)]
        if not mine:
            raise _not_allowed(key, "anything")
        due = upkeep.expiring(draft.roles, context.now).keys()
        for name in due & set(mine) - draft.proposed.keys():
            draft.propose_again(name)
        return _finish(draft, signer)


def delegate(
    context: Context, *, where: Folder, app: AppName, to: Holders, signer: Signer
) -> Signed:
    """Say who may sign for an app.

    Raises:
        KeyNotAllowedError: The signer does not decide that.
        UsageError: Nobody could sign, or the name is TUF's own.
    """
    delegations.check_app(app)
    with _changing(context, where, "delegate") as draft:
        _check_signer(draft, "targets", signer)
        delegations.delegate(draft.propose_targets(), app, to.keys, to.threshold)
        return _finish(draft, signer, app)


def rotate(
    context: Context,
    *,
    where: Folder,
    root: Holders | None,
    targets: Holders | None,
    new_online: bool,
    signer: Signer,
) -> Signed:
    """Change who holds the top of a repository, with the signatures of both sides.

    Args:
        root: Who is to hold root; None for those who do.
        targets: Who is to say who may sign for which app; None for those who do.
        new_online: Whether there is to be another online key.

    Raises:
        KeyNotAllowedError: The signer does not hold root, and is not to.
        UsageError: Nothing is to change, or nobody could sign.
    """
    if not (root or targets or new_online):
        raise UsageError("nothing is to change", hint="--root, --targets or --online")
    with _changing(context, where, "rotate") as draft:
        _check_signer(draft, "root", signer)
        proposed = draft.propose_root()
        for role, holders in (("root", root), ("targets", targets)):
            if holders:
                delegations.assign(proposed, role, holders.keys, holders.threshold)
        if new_online:
            delegations.assign_online(proposed, online.make_next(where).public)
            draft.online = online.read(where)
        return _finish(draft, signer)


def _changing(context: Context, where: Folder, purpose: str) -> AbstractContextManager[Draft]:
    return changing(
        where,
        now=context.now,
        purpose=purpose,
        timeout_s=context.lock_timeout_s,
        waiting=context.waiting,
    )


def _read(where: Folder) -> Roles:
    roles = read_roles(where)
    assert roles
    return roles


def _every(draft: Draft) -> set[str]:
    assert draft.roles
    return {"root", "targets", *draft.roles.delegated_names(), *draft.proposed}


def _check_signer(draft: Draft, role: str, signer: Signer) -> None:
    key = PublicKey(signer.public_key)
    if key not in draft.signers_of(role):
        raise _not_allowed(key, role)


def _not_allowed(key: PublicKey, what: str) -> KeyNotAllowedError:
    return KeyNotAllowedError(
        f"{key.fingerprint} may not sign {what} in this repository",
        hint="sign with a key that may, or have it added: appb repo rotate, appb repo delegate",
    )


def _finish(draft: Draft, signer: Signer, *apps: AppName) -> Signed:
    draft.follow(PublicKey(signer.public_key))
    roles = draft.sign(signer)
    return Signed(roles=roles, outcome=draft.settle(), unsigned=_unsigned(draft, apps))


def _unsigned(draft: Draft, apps: Sequence[AppName]) -> dict[AppName, tuple[Version, ...]]:
    """Find releases that nodes would refuse under the proposed keys."""
    found = {}
    for app in apps:
        policy = keys.policy(draft.targets, app)
        versions = []
        for each in draft.releases(app).values():
            with open_source(str(draft.folder.target(each.target, each.sha256))) as source:
                signed = source.signed()
                try:
                    verify.authenticate(
                        signed.statement, signed.signatures, policy, draft.now, file=source.name
                    )
                except TrustError:
                    versions.append(each.version)
        if versions:
            found[app] = tuple(versions)
    return found
