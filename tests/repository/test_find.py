"""From an app's name to what one trusted repository says of it."""

from datetime import timedelta
from pathlib import Path

import pytest

from appbundle.errors import (
    ConflictError,
    CorruptError,
    ExpiredMetadataError,
    NotFoundError,
    TrustError,
    UsageError,
)
from appbundle.layout import Layout
from appbundle.names import AppName, Digest
from appbundle.repository import bindings, configured, find
from appbundle.repository.configured import Repository
from appbundle.repository.transports import health
from tests.crash.support import NOW
from tests.repository.simulator import Simulator

HELLO = AppName("hello")


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    """A node without repositories."""
    (tmp_path / "node").mkdir()
    return Layout(tmp_path / "node")


@pytest.fixture
def simulator(tmp_path: Path) -> Simulator:
    """A repository that has two releases of hello, by two of three keys."""
    made = Simulator(tmp_path / "served")
    made.delegate("hello", threshold=2, keys=3)
    made.add_release("hello", 1, b"first bundle")
    made.add_release("hello", 2, b"second bundle")
    made.publish("targets")
    return made


def use(layout: Layout, name: str, simulator: Simulator, *urls: str) -> None:
    """Make a repository the node's."""
    digest = Digest(simulator.first_root_sha256())
    where = urls or (f"file://{simulator.folder}",)
    repository = Repository(name=name, urls=where, root_sha256=digest)
    configured.add(layout, repository, simulator.first_root())


def test_describes_an_app(layout: Layout, simulator: Simulator) -> None:
    """Found are the app's releases, newest first, the keys that count, and a way to its files."""
    use(layout, "site", simulator)
    with find.repositories(layout, now=NOW) as known:
        found = known.find(HELLO)
    assert (found.repository, found.threshold) == ("site", 2)
    assert {key.raw for key in found.keys} == {key.raw for key in simulator.keys["hello"]}
    assert [(each.version, each.release) for each in found.releases] == [("2.0", 2), ("1.0", 1)]
    newest = found.releases[0]
    assert found.mirrors.read(newest.path, limit=newest.size) == b"second bundle"


def test_name_in_two_repositories_is_asked_about(
    layout: Layout, simulator: Simulator, tmp_path: Path
) -> None:
    """An app's name that two repositories have is a conflict until it is bound to one."""
    other = Simulator(tmp_path / "other")
    other.delegate("hello")
    other.add_release("hello", 9, b"somebody else's")
    other.publish("targets")
    use(layout, "site", simulator)
    use(layout, "other", other)
    with find.repositories(layout, now=NOW) as known, pytest.raises(ConflictError):
        known.find(HELLO)
    bindings.bind(layout, HELLO, "site")
    with find.repositories(layout, now=NOW) as known:
        assert known.find(HELLO).repository == "site"


def test_bound_name_is_sought_nowhere_else(
    layout: Layout, simulator: Simulator, tmp_path: Path
) -> None:
    """A name that is bound to a repository which lacks it is not found in another."""
    use(layout, "empty", Simulator(tmp_path / "empty"))
    use(layout, "site", simulator)
    bindings.bind(layout, HELLO, "empty")
    with find.repositories(layout, now=NOW) as known, pytest.raises(NotFoundError):
        known.find(HELLO)


def test_mirror_that_is_gone_is_passed_over(layout: Layout, simulator: Simulator) -> None:
    """If the first of two mirrors is not there, the second one is asked."""
    use(layout, "site", simulator, "file:///nowhere", f"file://{simulator.folder}")
    with find.repositories(layout, now=NOW) as known:
        assert len(known.find(HELLO).releases) == 2


def test_app_that_is_not_delegated_is_not_there(layout: Layout, simulator: Simulator) -> None:
    """A role that is no longer delegated is not believed, though its metadata are remembered."""
    use(layout, "site", simulator)
    with find.repositories(layout, now=NOW) as known:
        known.find(HELLO)
    delegations = simulator.targets.delegations
    assert delegations is not None
    assert delegations.roles is not None
    del delegations.roles["hello"]
    simulator.publish("targets")
    with find.repositories(layout, now=NOW) as known, pytest.raises(NotFoundError):
        known.find(HELLO)


def test_clock_that_is_set_back_makes_nothing_good_again(
    layout: Layout, simulator: Simulator
) -> None:
    """The latest time that was seen counts, and who sees less is told: attack 43."""
    use(layout, "site", simulator)
    end = int(simulator.signed["timestamp"].expires.timestamp())
    with find.repositories(layout, now=end - 100) as known:
        known.find(HELLO)
    simulator.signed["timestamp"].expires -= timedelta(seconds=200)
    simulator.publish("hello")
    notes: list[str] = []
    with find.repositories(layout, now=end - 9000, note=notes.append) as known:
        with pytest.raises(ExpiredMetadataError):
            known.find(HELLO)
    assert "clock is behind" in notes[0]


def test_pinned_root_that_somebody_changed_is_refused(
    layout: Layout, simulator: Simulator, tmp_path: Path
) -> None:
    """The root that a node begins with must be the one whose hash was typed."""
    use(layout, "site", simulator)
    other = Simulator(tmp_path / "other")
    (layout.repository("site") / "root.json").write_bytes(other.first_root())
    with find.repositories(layout, now=NOW) as known, pytest.raises(CorruptError):
        known.find(HELLO)


def test_mirror_with_forged_metadata_is_passed_over(
    layout: Layout, simulator: Simulator, tmp_path: Path
) -> None:
    """A mirror that cannot be believed does no harm; if it is the only one, it is the error."""
    forged = Simulator(tmp_path / "forged")
    forged.delegate("hello")
    forged.publish("targets")
    urls = [f"file://{forged.folder}", f"file://{simulator.folder}"]
    use(layout, "site", simulator, *urls)
    with find.repositories(layout, now=NOW) as known:
        assert len(known.find(HELLO).releases) == 2
    use(layout, "site", simulator, urls[0], "file:///nowhere")
    with find.repositories(layout, now=NOW) as known, pytest.raises(TrustError):
        known.find(HELLO)


def test_mirror_that_was_good_is_asked_first_for_a_day(
    layout: Layout, simulator: Simulator, tmp_path: Path
) -> None:
    """A dead mirror is not waited for by each command, but is not forgotten either."""
    dead = f"file://{tmp_path}/dead"
    use(layout, "site", simulator, dead, f"file://{simulator.folder}")
    with find.repositories(layout, now=NOW) as known:
        known.find(HELLO)
    assert order(layout, now=NOW + 60)[1] == dead
    assert order(layout, now=NOW + 90_000)[0] == dead


def order(layout: Layout, *, now: int) -> list[str]:
    """In which order the mirrors of `site` are asked."""
    place = layout.repository("site")
    mirrors = find.mirrors_of(configured.read(layout, "site"))
    health.prefer(place, mirrors, now=now)
    return [each.name for each in mirrors.in_order()]


def test_online_key_vouches_for_no_app(layout: Layout, simulator: Simulator) -> None:
    """The catalog's role, whose key is on a machine with a network, is not an app's."""
    simulator.delegate("catalog")
    simulator.add_release("catalog", 1, b"bundle")
    simulator.publish("targets", "catalog")
    use(layout, "site", simulator)
    with find.repositories(layout, now=NOW) as known, pytest.raises(UsageError):
        known.find(AppName("catalog"))
