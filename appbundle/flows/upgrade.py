"""`appb outdated`, `upgrade`: newer releases of what came from repositories."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from appbundle.errors import ConflictError, NotFoundError
from appbundle.flows import fetch, install
from appbundle.flows.context import Context
from appbundle.flows.goal import Added
from appbundle.flows.install import Installed
from appbundle.flows.origin import Origin
from appbundle.names import AppName, Version
from appbundle.repository import bindings
from appbundle.repository.find import Described, Repositories
from appbundle.repository.release import STABLE, Release, newest
from appbundle.store import generations, holds, listed
from appbundle.store.holds import Hold
from appbundle.store.listed import Listed


@dataclass(frozen=True, slots=True, kw_only=True)
class Outdated:
    """An app of which its repository has a newer release.

    Args:
        current: What the node runs.
        release: What it could run.
        described: What the repository says of the app.
        hold: Why it is not upgraded, if it is held.
    """

    current: Version
    release: Release
    described: Described
    hold: Hold | None


def outdated(context: Context) -> list[Outdated]:
    """Ask the repositories of all apps that came from one.

    Raises:
        AppbError: One cannot be asked, or cannot be believed.
    """
    with fetch.known(context) as repositories:
        return _find(context, repositories)


def _find(context: Context, repositories: Repositories) -> list[Outdated]:
    held = holds.read(context.layout, now=context.now)
    found = (
        _outdated(repositories, name, current, held.get(name))
        for name, current in _bound(context).items()
    )
    return [each for each in found if each is not None]


def _bound(context: Context) -> dict[AppName, Listed]:
    """The current versions of apps whose names are bound to a repository."""
    now = generations.current(context.layout)
    apps = now.apps if now else {}
    return {
        name: about
        for name, version in sorted(apps.items())
        if bindings.bound_to(context.layout, name) is not None
        and (about := listed.read(context.layout, name, version)) is not None
    }


def _outdated(
    repositories: Repositories, name: AppName, current: Listed, hold: Hold | None
) -> Outdated | None:
    described = repositories.find(name)
    release = newest(described.releases, channels_of(described.releases, current.digest))
    if release is None or release.release <= current.release:
        return None
    return Outdated(current=current.version, release=release, described=described, hold=hold)


def channels_of(releases: Sequence[Release], digest: str) -> tuple[str, ...]:
    """The channels that an app follows: those of what runs, but stable alone if that is one.

    So whoever tried a beta goes on with betas until what runs was declared stable.
    """
    channels = next((each.channels for each in releases if each.digest == digest), ())
    return channels if channels and STABLE not in channels else (STABLE,)


def _origins(
    context: Context, repositories: Repositories, names: Sequence[AppName]
) -> list[Origin]:
    """Find what an upgrade would install."""
    for name in set(names) - set(_bound(context)):
        raise NotFoundError(f"{name} is no app from a repository", hint=f"appb install {name}")
    found = []
    for each in _find(context, repositories):
        app = each.described.app
        if names and app not in names:
            continue
        if each.hold is None:
            found.append(fetch.origin(context, each.described, each.release))
        elif names:
            raise ConflictError(f"{app} is held: {each.hold.reason}", hint=f"appb unhold {app}")
        else:
            context.report.note(f"{app} is held: {each.hold.reason}")
    return found


def upgrade(context: Context, names: Sequence[AppName], *, dry_run: bool = False) -> Installed:
    """Install newer releases and switch to them, all in one generation.

    Args:
        names: Only these; all that are not held if there are none.
        dry_run: Only say what would happen; of bundles only manifests are fetched.

    Raises:
        ConflictError: One that was named is held.
        NotFoundError: One that was named did not come from a repository, or is not current.
        AppbError: As installing.
    """
    with fetch.known(context) as repositories:
        found = _origins(context, repositories, names)
    act = install.plan_from if dry_run else install.install_from
    return act(context, found, goal=Added(purpose="upgrade"))
