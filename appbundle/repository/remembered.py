"""Whose signatures count for apps of repositories, as this node last trusted: no network is needed.

From the pinned root every later one is verified anew, and the delegations by the last of them; only
how old they are does not count, since a bundle that was installed stays what it is.
"""

from pathlib import Path
from typing import Any, cast

from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata, Root, Targets

from appbundle.errors import CorruptError
from appbundle.layout import Layout
from appbundle.repository import bindings, configured, keys
from appbundle.repository.trusted import HISTORY, METADATA
from appbundle.trust.verify import TrustPolicy


def policy(layout: Layout) -> TrustPolicy:
    """What the repositories of a node accept as bundles of the apps that are bound to them.

    Raises:
        CorruptError: What was remembered of one is damaged, or not by whom it should be.
    """
    found = [
        keys.policy(targets, app)
        for name in configured.names(layout)
        if (apps := bindings.bound(layout, name)) and (targets := _delegations(layout, name))
        for app in apps
    ]
    return TrustPolicy(
        signers=tuple(line for each in found for line in each.signers),
        thresholds=tuple(asked for each in found for asked in each.thresholds),
    )


def _delegations(layout: Layout, name: str) -> Targets | None:
    """What a repository's top-level targets role said last; None if nobody ever looked."""
    cache = layout.repository(name) / METADATA
    pinned = configured.read_pinned(layout, configured.read(layout, name))
    try:
        root = _last_root(pinned, cache / HISTORY)
        raw = (cache / f"{Targets.type}.json").read_bytes()
        parsed: Metadata[Any] = Metadata.from_bytes(raw)
        root.verify_delegate(Targets.type, parsed.signed_bytes, parsed.signatures)
    except FileNotFoundError:
        return None
    except (RepositoryError, ValueError) as error:
        raise CorruptError(
            f"what this node remembers of {name} is not what its root vouches for",
            hint="with a network: appb outdated",
        ) from error
    return cast(Targets, parsed.signed)


def _last_root(pinned: bytes, history: Path) -> Root:
    """Follow the roots, each of which the one before and it itself must have signed."""
    root: Root = Metadata[Root].from_bytes(pinned).signed
    while (path := history / f"{root.version + 1}.root.json").exists():
        parsed: Metadata[Any] = Metadata.from_bytes(path.read_bytes())
        following: Root = parsed.signed
        for each in (root, following):
            each.verify_delegate(Root.type, parsed.signed_bytes, parsed.signatures)
        if following.version != root.version + 1:
            raise ValueError(f"{path} is another version")
        root = following
    return root
