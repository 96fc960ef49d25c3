"""Apps from repositories: found by name, bound to one, upgraded together, held back."""

from collections.abc import Callable
from pathlib import Path

import pytest

from appbundle.bundle.services import Service
from appbundle.errors import ConflictError, NotFoundError, UnknownKeyError, UsageError
from appbundle.flows import describe, holds, install, listing, upgrade
from appbundle.flows.context import Context
from appbundle.names import AppName
from appbundle.repository import bindings
from appbundle.store import settings
from tests.crash.support import Node, make_bundle
from tests.repository.publisher import Publisher, use

Bundle = Callable[[str, int], Path]

HELLO, OTHER = AppName("hello"), AppName("other")


@pytest.fixture
def publisher(tmp_path: Path, bundle: Bundle) -> Publisher:
    """A repository with hello 1.0."""
    made = Publisher(tmp_path)
    made.publish(bundle("hello", 1))
    return made


@pytest.fixture
def context(node: Node, publisher: Publisher) -> Context:
    """Of a node that trusts nobody but that repository."""
    settings.write_allowed_signers(node.layout, "")
    use(node.layout, publisher.folder.path)
    return node.context(publisher.now)


def current(context: Context) -> dict[str, str]:
    """What is current."""
    return {a.name: a.current for a in listing.apps(context.layout) if a.current}


def test_name_installs_the_newest_stable_release(
    context: Context, publisher: Publisher, bundle: Bundle
) -> None:
    """The repository's keys are enough, and its name is remembered."""
    publisher.publish(bundle("hello", 2))
    publisher.publish(bundle("hello", 3), channels=["edge"])
    done = install.install(context, ["hello"])
    assert current(context) == {"hello": "2.0"}
    assert bindings.bound_to(context.layout, HELLO) == "site"
    assert 0 < done.cost.fetched_bytes <= done.cost.whole_bytes


@pytest.mark.parametrize(("word", "expected"), [("hello@1.0", "1.0"), ("hello@edge", "3.0")])
def test_version_or_channel_may_be_named(
    context: Context, publisher: Publisher, bundle: Bundle, word: str, expected: str
) -> None:
    """What stands behind @ is a version, or else a channel."""
    publisher.publish(bundle("hello", 2))
    publisher.publish(bundle("hello", 3), channels=["edge"])
    install.install(context, [word])
    assert current(context) == {"hello": expected}


@pytest.mark.parametrize("word", ["hello@9.0", "nothing"])
def test_what_is_not_there_is_not_found(context: Context, word: str) -> None:
    """A version, channel or app that the repository lacks changes nothing."""
    with pytest.raises(NotFoundError):
        install.install(context, [word])
    assert current(context) == {}


def test_files_and_names_make_one_generation(
    context: Context, publisher: Publisher, bundle: Bundle, node: Node
) -> None:
    """Both kinds of arguments may stand beside each other."""
    node.trust()
    install.install(context, ["hello", str(bundle("other", 1))])
    number, every = listing.history(context.layout)
    assert (number, len(every)) == (1, 1)
    assert current(context) == {"hello": "1.0", "other": "1.0"}


def test_name_that_is_a_file_here_is_asked_about(
    context: Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a word may be a file or an app, neither is guessed."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "hello").mkdir()
    with pytest.raises(UsageError, match="is a file here"):
        install.install(context, ["hello"])


def test_name_in_two_repositories_is_asked_about(
    context: Context, node: Node, publisher: Publisher, bundle: Bundle, tmp_path: Path
) -> None:
    """Which one is said once; later upgrades come from that and from no other."""
    other = Publisher(tmp_path / "second", publisher.now)
    other.base.mkdir()
    other.publish(bundle("hello", 1))
    use(node.layout, other.folder.path, "second")
    with pytest.raises(ConflictError, match="second and in site"):
        install.install(context, ["hello"])
    install.install(context, ["hello"], repository="second")
    publisher.publish(bundle("hello", 2))
    assert upgrade.outdated(context) == []
    other.publish(bundle("hello", 3))
    assert [each.release.version for each in upgrade.outdated(context)] == ["3.0"]


def test_repository_vouches_for_its_own_apps_only(
    context: Context, node: Node, bundle: Bundle
) -> None:
    """That a repository is used makes none of its keys good for files from elsewhere."""
    with pytest.raises(UnknownKeyError):
        install.install(context, [str(bundle("other", 1))])


def test_upgrade_takes_all_in_one_generation(
    context: Context, publisher: Publisher, bundle: Bundle
) -> None:
    """Everything that is outdated moves with one switch; then nothing is left to do."""
    publisher.publish(bundle("other", 1))
    install.install(context, ["hello", "other"])
    assert upgrade.outdated(context) == []
    publisher.publish(bundle("hello", 2), bundle("other", 2))
    assert [each.described.app for each in upgrade.outdated(context)] == [HELLO, OTHER]
    planned = upgrade.upgrade(context, [], dry_run=True)
    assert current(context) == {"hello": "1.0", "other": "1.0"}
    done = upgrade.upgrade(context, [])
    assert current(context) == {"hello": "2.0", "other": "2.0"}
    number, every = listing.history(context.layout)
    assert (number, every[-1].reason) == (2, "upgrade hello@2.0 other@2.0")
    assert planned.cost == done.cost
    assert upgrade.upgrade(context, []).switched.outcome == "unchanged"
    assert listing.history(context.layout)[0] == 2


def test_upgrade_follows_the_channel_of_what_runs(
    context: Context, publisher: Publisher, bundle: Bundle
) -> None:
    """Who runs an unstable release gets the next of these, until a stable one runs."""
    publisher.publish(bundle("hello", 2), channels=["edge"])
    install.install(context, ["hello@edge"])
    publisher.publish(bundle("hello", 3), channels=["edge"])
    upgrade.upgrade(context, [])
    assert current(context) == {"hello": "3.0"}
    publisher.publish(bundle("hello", 3), channels=["stable"])
    publisher.publish(bundle("hello", 4), channels=["edge"])
    assert upgrade.outdated(context) == []


def test_held_app_stays(context: Context, publisher: Publisher, bundle: Bundle) -> None:
    """A held app is left out, is refused by name with the reason, and goes on when let go."""
    publisher.publish(bundle("other", 1))
    install.install(context, ["hello", "other"])
    publisher.publish(bundle("hello", 2), bundle("other", 2))
    holds.hold(context, HELLO, reason="waits for the database", until=None)
    with pytest.raises(ConflictError, match="waits for the database"):
        upgrade.upgrade(context, [HELLO])
    upgrade.upgrade(context, [])
    assert current(context) == {"hello": "1.0", "other": "2.0"}
    holds.unhold(context, HELLO)
    upgrade.upgrade(context, [])
    assert current(context) == {"hello": "2.0", "other": "2.0"}


def test_hold_ends_by_itself(context: Context, publisher: Publisher, bundle: Bundle) -> None:
    """From the time on that was said with it, a hold is none."""
    install.install(context, ["hello"])
    publisher.publish(bundle("hello", 2))
    holds.hold(context, HELLO, reason="Christmas", until=context.now)
    upgrade.upgrade(context, [HELLO])
    assert current(context) == {"hello": "2.0"}
    with pytest.raises(NotFoundError, match="not held"):
        holds.unhold(context, HELLO)


def test_what_came_from_a_file_is_not_upgraded(
    context: Context, node: Node, publisher: Publisher, bundle: Bundle
) -> None:
    """A repository takes over nothing that it was not asked for."""
    node.trust()
    install.install(context, [str(bundle("hello", 1))])
    publisher.publish(bundle("hello", 2))
    assert upgrade.outdated(context) == []
    with pytest.raises(NotFoundError, match="no app from a repository"):
        upgrade.upgrade(context, [HELLO])


def test_offer_is_described_before_it_is_fetched(
    context: Context, publisher: Publisher, bundle: Bundle
) -> None:
    """What is to fetch and to write is known from the manifest, and nothing is written."""
    install.install(context, ["hello"])
    publisher.publish(bundle("hello", 2))
    offer = describe.info(context, "hello@2.0").offer
    assert offer is not None
    assert (offer.repository, offer.channels) == ("site", ("stable",))
    assert offer.cost == install.install(context, ["hello"]).cost
    assert describe.info(context, "hello@2.0").offer is None


def test_services_that_may_more_are_told(
    context: Context, publisher: Publisher, tmp_path: Path
) -> None:
    """Permissions that widen are said before anything is fetched."""

    def release(number: int, *entitlements: str) -> Path:
        service = Service(name="web", argv=("/bin/tool",), entitlements=entitlements)
        return make_bundle(*(tmp_path, "web", f"{number}.0"), release=number, services=(service,))

    publisher.publish(release(1))
    publisher.publish(release(2, "network-out"))
    install.install(context, ["web@1.0"], switch_to=False)
    offer = describe.info(context, "web@2.0").offer
    assert offer is not None
    assert any("web 2.0: service web" in each for each in offer.widenings)
