"""Removing and collecting: what is needed stays and says why; what goes is gone at once."""

import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from appbundle.errors import AppbError, ConflictError, NotFoundError
from appbundle.flows import remove as removing
from appbundle.flows import switch as switching
from appbundle.names import OWN, AppName, parse_ref
from appbundle.store import generations
from tests.bundles import picture
from tests.crash.support import DAY_S, NOW, Node, hello, make_bundle, new_node

Bundle = Callable[[str, int], Path]


@pytest.fixture
def five(node: Node, bundle: Bundle) -> Node:
    """A node with hello 1.0 to 5.0, a day between each, the last one installed today; 3.0 runs."""
    for number in (1, 2, 3, 4, 5):
        now = NOW - (5 - number) * DAY_S
        node.install(bundle("hello", number), now=now, switch_to=number <= 3)
    return node


def pin(node: Node, ref: str) -> None:
    """Pin a version."""
    removing.pin(node.context(), parse_ref(ref))


@contextmanager
def running_from(directory: Path) -> Iterator[None]:
    """Have a process that works in a directory."""
    process = subprocess.Popen(["sleep", "100"], cwd=directory)
    try:
        yield
    finally:
        process.kill()
        process.wait()


def test_version_goes_with_its_generations(five: Node) -> None:
    """A removed version takes along the generations that cannot be switched to any more."""
    done = five.remove("hello@1.0")
    assert (done.versions, done.generations) == ((parse_ref("hello@1.0"),), (1,))
    assert five.looks().generations == (2, 3)
    assert five.problems() == {}


def test_numbers_never_return(five: Node, bundle: Bundle) -> None:
    """The newest generation stays in the history although its version is gone."""
    switching.switch_to(five.context(), 1)
    five.remove("hello@3.0")
    five.install(bundle("other", 1))
    assert five.looks().current == 4


REFUSALS: dict[str, tuple[str, type[AppbError], str]] = {
    "current": ("hello@3.0", ConflictError, "current"),
    "pinned": ("hello@4.0", ConflictError, "pinned"),
    "pinned, whole app": ("hello", ConflictError, "pinned"),
    "not there": ("hello@9.0", NotFoundError, "not installed"),
    "no such app": ("nobody", NotFoundError, "not installed"),
}


@pytest.mark.parametrize("case", REFUSALS)
@pytest.mark.parametrize("dry_run", [False, True])
def test_what_is_needed_is_not_removed(five: Node, case: str, dry_run: bool) -> None:
    """Current and pinned versions stay, with a reason; an app stays if one of its versions must."""
    ref, error, words = REFUSALS[case]
    pin(five, "hello@4.0")
    before = picture(five.root)
    with pytest.raises(error, match=words) as caught:
        removing.remove(five.context(), parse_ref(ref), dry_run=dry_run)
    assert caught.value.hint
    assert picture(five.root) == before


@pytest.mark.parametrize("ref", ["hello@5.0", "hello"])
def test_version_in_use_is_not_removed(five: Node, ref: str) -> None:
    """While a process works in a version it stays, and so does its app; afterwards it may go."""
    with running_from(five.version("hello", "5.0") / "share"):
        with pytest.raises(ConflictError, match=r"hello 5\.0 is in use"):
            five.remove(ref)
        assert ("hello", "5.0") in five.looks().versions
    five.remove(ref)
    assert ("hello", "5.0") not in five.looks().versions


def test_whole_app_leaves_what_runs_first(five: Node, bundle: Bundle) -> None:
    """Removing an app makes a generation without it, then removes its versions and no others."""
    five.install(bundle("other", 1))
    five.remove("hello")
    looks = five.looks()
    assert looks.versions == {("other", "1.0")}
    assert looks.apps == {"other": "1.0"}
    assert generations.read(five.layout, 5).parent == 4
    assert five.problems() == {}


def test_removed_app_can_come_back(five: Node, bundle: Bundle) -> None:
    """After its removal an app is installed as on a fresh node."""
    five.remove("hello")
    five.install(bundle("hello", 5))
    assert five.looks().apps == {"hello": "5.0"}
    assert five.problems() == {}


@pytest.mark.parametrize("later", [False, True])
def test_state_stays_until_it_is_purged(five: Node, later: bool) -> None:
    """State outlives the app; --purge removes it, with the app or after it."""
    state = five.layout.state(AppName("hello"))
    (state / "database").mkdir(parents=True)
    neighbour = five.layout.state(AppName("other"))
    neighbour.mkdir()
    if later:
        five.remove("hello")
        assert (state / "database").is_dir()
    done = five.remove("hello", purge=True)
    assert (done.purged, state.exists(), neighbour.exists()) == (True, False, True)
    with pytest.raises(NotFoundError):
        five.remove("hello", purge=True)


def test_one_version_has_no_state_of_its_own(five: Node) -> None:
    """--purge with a version is refused: the other versions need the state."""
    with pytest.raises(ConflictError, match="share"):
        five.remove("hello@1.0", purge=True)


def test_appb_itself_has_no_state_to_purge(node: Node, bundle: Bundle) -> None:
    """What is at its place is the supervisor's, and stays."""
    state = node.layout.state(OWN) / "disabled"
    state.parent.mkdir(parents=True)
    state.touch()
    node.install(bundle("appb", 1))
    with pytest.raises(ConflictError):
        node.remove("appb", purge=True)
    node.remove("appb")
    assert state.exists()


def test_pin_holds_until_it_is_taken_away(five: Node) -> None:
    """A pinned version survives gc and remove; unpinned, it goes."""
    pin(five, "hello@1.0")
    five.gc()
    assert ("hello", "1.0") in five.looks().versions
    removing.unpin(five.context(), parse_ref("hello@1.0"))
    five.gc()
    assert ("hello", "1.0") not in five.looks().versions


def test_pin_means_the_current_version_by_default(five: Node) -> None:
    """Without a version, what runs now is pinned, and stays pinned when another one runs."""
    assert removing.pin(five.context(), parse_ref("hello")) == parse_ref("hello@3.0")
    five.switch("hello@5.0")
    with pytest.raises(NotFoundError, match="not pinned"):
        removing.unpin(five.context(), parse_ref("hello"))
    removing.unpin(five.context(), parse_ref("hello@3.0"))


@pytest.mark.parametrize("ref", ["hello@9.0", "nobody", "nobody@1.0"])
def test_only_what_is_there_can_be_pinned(five: Node, ref: str) -> None:
    """A pin for a version that does not exist would protect nothing, so it is refused."""
    with pytest.raises(NotFoundError):
        pin(five, ref)
    assert list(five.layout.pins.iterdir()) == []


def verdicts(done: removing.Collected) -> dict[str, str]:
    """Why each version stays; versions that go are left out."""
    return {each.version: each.reason for each in done.verdicts if each.keep}


def test_gc_removes_the_rest_and_says_why_not(five: Node) -> None:
    """Current, parent, pinned and the newest stay, each with its reason; the others are gone."""
    pin(five, "hello@1.0")
    done = five.gc(keep=1)
    assert verdicts(done) == {
        "1.0": "pinned",
        "2.0": "what switch --previous brings back",
        "3.0": "current",
        "5.0": "one of the newest 1",
    }
    assert {version for _, version in five.looks().versions} == set(verdicts(done))
    assert five.unshared_objects() == []
    assert five.problems() == {}


def test_gc_needs_count_and_age(five: Node) -> None:
    """What is surplus but young stays, and so does what is old but among the newest."""
    done = five.gc(keep=1, older_than_s=2 * DAY_S)
    assert verdicts(done)["4.0"] == "younger than 2 days"
    assert ("hello", "1.0") not in five.looks().versions


def test_gc_keeps_what_the_parent_needs(five: Node) -> None:
    """After gc the way back still works."""
    five.gc()
    five.previous()
    assert five.looks().apps == {"hello": "2.0"}


def test_gc_keeps_a_running_program(tmp_path: Path) -> None:
    """A version whose program still runs stays, though another one has been current for long."""
    tmp_path.chmod(0o755)
    node, sleep = new_node(tmp_path / "node"), shutil.which("sleep")
    assert sleep
    for number in (1, 2, 3):
        tree = hello(f"{number}.0") | {"bin/sleep": Path(sleep).read_bytes()}
        node.install(make_bundle(tmp_path, "hello", f"{number}.0", release=number, tree=tree))
    process = subprocess.Popen([node.version("hello", "1.0") / "bin/sleep", "100"])
    try:
        done = node.gc()
        assert verdicts(done)["1.0"] == "in use by a process"
    finally:
        process.kill()
        process.wait()
    node.gc()
    assert node.looks().versions == {("hello", "2.0"), ("hello", "3.0")}


def test_gc_gives_no_place_to_what_failed(five: Node) -> None:
    """A version found unhealthy is not one of the newest, so the last good one stays."""
    five.switch("hello@5.0")
    failed = generations.current(five.layout)
    assert failed
    generations.record_outcome(five.layout, failed, "unhealthy")
    switching.switch_to(five.context(), 3)
    done = five.gc(keep=1)
    assert verdicts(done)["4.0"] == "one of the newest 1"
    gone = {str(each.version): each.reason for each in done.verdicts if not each.keep}
    assert gone["5.0"] == "failed its health check"


def test_gc_says_what_it_frees(five: Node) -> None:
    """The bytes it reports are those of the objects that are gone."""
    before = sum(each.stat().st_size for each in five.objects())
    done = five.gc()
    assert done.freed_bytes == before - sum(each.stat().st_size for each in five.objects())


def test_gc_with_nothing_to_do_touches_nothing(five: Node) -> None:
    """Collected once more, a node stays as it is."""
    five.gc(keep=9)
    before = picture(five.root)
    done = five.gc(keep=9)
    assert (done.freed_bytes, done.objects, done.generations) == (0, 0, ())
    assert picture(five.root) == before


def test_gc_follows_the_nodes_settings(five: Node) -> None:
    """What is not said on the command line comes from node.toml."""
    five.layout.node_settings.write_text("[retention]\nkeep = 2\nolder_than_days = 0\n")
    policy = removing.gc_policy(five.context(), keep=None, older_than_s=None)
    done = removing.collect(five.context(), policy)
    assert set(verdicts(done)) == {"2.0", "3.0", "4.0", "5.0"}
    policy = removing.gc_policy(five.context(), keep=0, older_than_s=3600)
    assert (policy.keep, policy.older_than_s) == (0, 3600)
