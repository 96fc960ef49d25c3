"""From names to bundles in repositories: which release, from where, and whose signatures count."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial

from appbundle.errors import AppbError, NotFoundError
from appbundle.flows import authenticity
from appbundle.flows.authenticity import Policies
from appbundle.flows.context import Context
from appbundle.flows.origin import Origin
from appbundle.names import AppName, BundleRef
from appbundle.repository.bundle import RemoteBundle
from appbundle.repository.find import Described, Repositories, repositories
from appbundle.repository.release import STABLE, Release, newest
from appbundle.store import manifests
from appbundle.store.source import Source
from appbundle.trust.verify import TrustPolicy


def known(context: Context) -> AbstractContextManager[Repositories]:
    """The node's repositories, to be asked while the block lasts."""
    return repositories(
        context.layout,
        now=context.now,
        note=context.report.note,
        lock_timeout_s=context.lock_timeout_s,
    )


def find(
    context: Context,
    asked: Repositories,
    ref: BundleRef,
    *,
    repository: str | None = None,
) -> Origin:
    """Find the bundle that a person names.

    Args:
        ref: An app with its version, or a channel in place of that; the newest stable release
            without.
        repository: The only one to look at, even if the name is bound to another.

    Raises:
        NotFoundError: No repository has it.
        ConflictError: Several have an app of that name, and it is bound to none.
        AppbError: As `Repositories.find`.
    """
    described = look_up(asked, ref.name, repository=repository)
    return origin(context, described, choose(described, ref.version))


def look_up(asked: Repositories, name: AppName, *, repository: str | None = None) -> Described:
    """Give what an app's repository says of it."""
    if repository is None:
        return asked.find(name)
    described = asked.find_in(repository, name)
    if described is None:
        raise NotFoundError(f"repository {repository} has no {name}", hint="appb search WORD")
    return described


def choose(described: Described, wanted: str | None) -> Release:
    """Choose a release by its version, or the newest of a channel.

    Raises:
        NotFoundError: There is none; says what there is.
    """
    for each in described.releases:
        if each.version == wanted:
            return each
    found = newest(described.releases, (wanted or STABLE,))
    if found is None:
        channels = sorted({c for each in described.releases for c in each.channels})
        raise NotFoundError(
            f"{described.repository} has no {BundleRef(described.app)}@{wanted or STABLE}",
            hint=f"it has: {', '.join([*channels, *(r.version for r in described.releases[:8])])}",
        )
    return found


def origin(context: Context, described: Described, release: Release) -> Origin:
    """Say where a release can be read, from one mirror after the other."""
    reading = partial(_reading, context, described, release)
    return Origin(
        policy=policy(context, described),
        readings=(reading,) * len(described.mirrors.in_order()),
        digest=release.digest,
        repository=described.repository,
    )


@contextmanager
def _reading(context: Context, described: Described, release: Release) -> Iterator[Source]:
    mirrors = described.mirrors
    try:
        yield RemoteBundle(
            mirrors,
            release,
            title=f"{release.app} {release.version} of {described.repository}",
            recall=partial(manifests.find_plain, context.layout, described.app),
            chosen=lambda _, saved: context.report.saves(saved),
        )
    except AppbError:
        # What it gave may be what was wrong.
        mirrors.demote(mirrors.in_order()[0])
        raise


def policy(context: Context, described: Described) -> Policies:
    """Whose signatures count for an app of a repository: its keys, as many as both ask for."""
    asked = authenticity.own_policy(context.layout).thresholds
    mine = described.policy
    return Policies(TrustPolicy(signers=mine.signers, thresholds=(*mine.thresholds, *asked)))
