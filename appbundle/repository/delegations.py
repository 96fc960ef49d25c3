"""Who may sign what: the root's four roles, and a delegated role for each app and the catalog."""

from collections.abc import Collection

from tuf.api.metadata import DelegatedRole, Delegations, Root, Targets

from appbundle.errors import UsageError
from appbundle.names import AppName
from appbundle.repository import catalog
from appbundle.repository.keys import encode_key, key_id, keys_of
from appbundle.trust.keys import PublicKey

OFFLINE = ("root", "targets")
_ONLINE = ("snapshot", "timestamp")
_RESERVED = frozenset({*OFFLINE, *_ONLINE, catalog.ROLE})


def first_root(key: PublicKey, online: PublicKey) -> Root:
    """The first root: one key for root and targets, the online key for the others."""
    root = Root(consistent_snapshot=True)
    for role in OFFLINE:
        assign(root, role, [key], 1)
    assign_online(root, online)
    return root


def first_targets(online: PublicKey) -> Targets:
    """The first targets: nobody may sign for an app, and the online key makes the catalog."""
    targets = Targets()
    delegate(targets, catalog.ROLE, [online], 1)
    return targets


def assign(root: Root, role: str, keys: Collection[PublicKey], threshold: int) -> None:
    """Give a top-level role to keys; those that no role has any more are dropped."""
    check_threshold(keys, threshold)
    for old in list(root.roles[role].keyids):
        root.revoke_key(old, role)
    for key in keys:
        root.add_key(encode_key(key), role)
    root.roles[role].threshold = threshold


def assign_online(root: Root, online: PublicKey) -> None:
    """Give snapshot and timestamp to the online key."""
    for role in _ONLINE:
        assign(root, role, [online], 1)


def delegate(targets: Targets, role: str, keys: Collection[PublicKey], threshold: int) -> None:
    """Give an app, or the catalog, to keys; those that no role has any more are dropped."""
    check_threshold(keys, threshold)
    if targets.delegations is None:
        targets.delegations = Delegations({}, {})
    roles = targets.delegations.roles
    assert roles is not None
    for old in list(roles[role].keyids) if role in roles else ():
        targets.revoke_key(old, role)
    roles[role] = DelegatedRole(role, [], threshold, True, paths=[f"{role}/*"])
    for key in keys:
        targets.add_key(encode_key(key), role)


def check_threshold(keys: Collection[PublicKey], threshold: int) -> None:
    """Refuse a role that nobody could sign.

    Raises:
        UsageError: There are fewer keys than must sign, or two have the same name.
    """
    distinct = set(keys)
    if not 1 <= threshold <= len(distinct):
        raise UsageError(
            f"{threshold} of {len(distinct)} keys cannot sign",
            hint="name more keys, or a lower --threshold",
        )
    if len({key_id(key) for key in distinct}) < len(distinct):
        raise UsageError("two keys have the same beginning of their hash", hint="use another one")


def check_app(app: AppName) -> None:
    """Refuse an app that is named like a role of TUF's own.

    Raises:
        UsageError: It is.
    """
    if app in _RESERVED:
        raise UsageError(f"an app in a repository cannot be named {app}", hint="rename it")


def is_delegated(targets: Targets, app: AppName) -> bool:
    """Whether anybody may sign for an app."""
    return bool(keys_of(targets, app))
