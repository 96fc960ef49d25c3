"""Switching: forward, back, to a number, for one app or for all; back is where we came from."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from appbundle.errors import AppbError, NotFoundError
from appbundle.flows import switch as switching
from appbundle.flows.consequences import Switched
from appbundle.names import AppName, parse_ref
from tests.bundles import picture
from tests.crash.support import Node

Bundle = Callable[[str, int], Path]


@pytest.fixture
def three(node: Node, bundle: Bundle) -> Node:
    """A node with generations 1, 2, 3, each of which brought hello and other of its number."""
    for number in (1, 2, 3):
        node.install(bundle("hello", number), bundle("other", number))
    return node


def apps(node: Node) -> tuple[str | None, str | None]:
    """The current versions of hello and other, as services find them: through the links."""
    found = []
    for name in ("hello", "other"):
        link = node.layout.app(AppName(name)) / "current/share/version"
        found.append(link.read_text().split()[1] if link.exists() else None)
    return found[0], found[1]


def to(node: Node, number: int) -> Switched:
    """Go to a generation."""
    return switching.switch_to(node.context(), number)


def test_named_apps_move_and_others_stay(three: Node) -> None:
    """Switching makes one new generation with the named versions and all other apps as before."""
    three.switch("hello@1.0")
    assert apps(three) == ("1", "3")
    three.switch("hello@2.0", "other@1.0")
    assert apps(three) == ("2", "1")
    assert three.looks().generations == (1, 2, 3, 4, 5)


def test_number_brings_all_apps_of_it(three: Node) -> None:
    """--to makes no new generation: all apps are as they were in that one."""
    to(three, 1)
    assert (apps(three), three.looks().current) == (("1", "1"), 1)
    to(three, 3)
    assert (apps(three), three.looks().generations) == (("3", "3"), (1, 2, 3))


def test_previous_walks_back_and_then_refuses(three: Node) -> None:
    """Repeated, --previous goes further back, and at the beginning it says so."""
    three.previous()
    three.previous()
    assert apps(three) == ("1", "1")
    before = picture(three.root)
    with pytest.raises(NotFoundError, match="no generation before"):
        three.previous()
    assert picture(three.root) == before


def test_previous_is_the_recorded_parent(node: Node, bundle: Bundle) -> None:
    """After 1, 2, back to 1, and 3: back means 1, neither number minus one nor the newest other."""
    for number in (1, 2):
        node.install(bundle("hello", number))
    to(node, 1)
    node.install(bundle("hello", 3))
    node.previous()
    assert node.looks().current == 1
    assert node.looks().apps == {"hello": "1.0"}


def test_previous_from_the_middle(three: Node, bundle: Bundle) -> None:
    """Where current is not the newest, back means its own parent, and forward takes a number."""
    to(three, 2)
    three.previous()
    assert three.looks().current == 1
    to(three, 3)
    assert apps(three) == ("3", "3")


def test_previous_brings_an_app_away_and_back(node: Node, bundle: Bundle) -> None:
    """Going back over an app's first installation takes it out of what runs, not off the disk."""
    node.install(bundle("hello", 1))
    node.install(bundle("other", 1))
    done = node.previous()
    assert [(c.name, c.before, c.after) for c in done.changes] == [("other", "1.0", None)]
    assert apps(node) == ("1", None)
    assert ("other", "1.0") in node.looks().versions
    to(node, 2)
    assert apps(node) == ("1", "1")


def test_previous_of_one_app(three: Node) -> None:
    """Only that app goes back, in a new generation; once more, and it goes further back."""
    three.previous("hello")
    assert apps(three) == ("2", "3")
    three.previous("hello")
    assert apps(three) == ("1", "3")
    with pytest.raises(NotFoundError, match=r"no version before 1\.0"):
        three.previous("hello")
    three.previous("other")
    assert apps(three) == ("1", "2")


def test_previous_of_one_app_skips_what_others_did(node: Node, bundle: Bundle) -> None:
    """Generations in which only other apps changed are no step of this one."""
    node.install(bundle("hello", 1))
    node.install(bundle("hello", 2))
    for number in (1, 2, 3):
        node.install(bundle("other", number))
    node.previous("hello")
    assert node.looks().apps == {"hello": "1.0", "other": "3.0"}


def test_previous_undoes_the_previous_of_one_app(three: Node) -> None:
    """After one app went back, --previous for all is the generation in which it had not."""
    three.previous("hello")
    three.previous()
    assert (apps(three), three.looks().current) == (("3", "3"), 3)


def test_app_that_moved_on_goes_back_to_there(three: Node, bundle: Bundle) -> None:
    """What was remembered of going back ends when the app gets another version."""
    three.previous("hello")
    three.install(bundle("hello", 4))
    three.previous("hello")
    assert apps(three) == ("2", "3")


@pytest.mark.parametrize(
    "act",
    [
        lambda node: node.switch("hello@3.0"),
        lambda node: node.switch("hello@3.0", "other@3.0"),
        lambda node: to(node, 3),
    ],
)
def test_nothing_to_change(three: Node, act: Callable[[Node], Switched]) -> None:
    """Switching to what is current makes no generation and touches no file."""
    before = picture(three.root)
    assert act(three).outcome == "unchanged"
    assert picture(three.root) == before


@pytest.mark.parametrize(
    "act",
    [
        lambda node: node.switch("hello@9.0"),
        lambda node: node.switch("hello@1.0", "nobody@1.0"),
        lambda node: node.previous("nobody"),
        lambda node: to(node, 0),
        lambda node: to(node, 4),
        lambda node: to(node, -1),
    ],
)
def test_what_is_not_there_is_refused_whole(three: Node, act: Callable[[Node], object]) -> None:
    """If one thing that was named does not exist, nothing moves."""
    before = picture(three.root)
    with pytest.raises(NotFoundError):
        act(three)
    assert picture(three.root) == before


def test_generation_whose_version_is_gone_is_refused(three: Node) -> None:
    """A generation is brought back whole or not at all; the refusal names what is missing."""
    before = three.looks()
    three.version("other", "1.0").rename(three.root / "lost")
    with pytest.raises(NotFoundError, match=r"other 1\.0"):
        to(three, 1)
    assert three.looks().apps == before.apps


@pytest.mark.parametrize("app", [None, "hello", "other"])
def test_previous_that_was_removed_is_said(three: Node, app: str | None) -> None:
    """If the parent went with a removed version, --previous says that, and jumps over nothing."""
    three.remove("hello@2.0")
    with pytest.raises(NotFoundError, match=r"generation 2.* is gone") as caught:
        three.previous(app)
    assert "appb switch" in caught.value.hint
    assert apps(three) == ("3", "3")


def test_empty_node_has_nothing_to_go_back_to(node: Node) -> None:
    """Each way back is refused with a sentence before anything was installed."""
    acts: list[Callable[[], object]] = [node.previous, lambda: node.previous("hello")]
    for act in acts:
        with pytest.raises(NotFoundError):
            act()


def test_changes_are_said_before_they_happen(three: Node) -> None:
    """The affected apps are named while the old generation is still the current one."""
    said: list[tuple[str, int | None]] = []

    class Listener:
        def step(self, text: str) -> None:
            pass

        def advance(self, done: int, total: int) -> None:
            pass

        def note(self, text: str) -> None:
            said.append((text, three.looks().current))

    context = three.context(report=Listener())
    switching.switch_previous(context)
    switching.switch(context, [parse_ref("other@1.0")])
    assert said == [
        ("hello: 3.0 → 2.0", 3),
        ("other: 3.0 → 2.0", 3),
        ("other: 2.0 → 1.0", 2),
    ]


def test_switch_reads_no_bundle(three: Node) -> None:
    """Going back works although the manifests of all versions are damaged."""
    for name, version in three.looks().versions:
        paper = three.version(name, version) / ".bundle/manifest.tar.zst"
        paper.write_bytes(b"damaged")
    three.previous()
    three.previous("hello")
    assert apps(three) == ("1", "2")


@pytest.mark.parametrize("act", [lambda node: to(node, 1), lambda node: node.switch("hello@1.0")])
def test_failure_leaves_the_old_one_current(
    three: Node, monkeypatch: pytest.MonkeyPatch, act: Callable[[Node], object]
) -> None:
    """If the link cannot be renamed, the error says so and what was current still is."""
    rename = os.rename

    def fail(source: object, target: object, **how: int) -> None:
        if Path(str(target)) == three.layout.current_generation:
            raise OSError(5, "Input/output error", str(target))
        rename(source, target, **how)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "rename", fail)
    with pytest.raises(AppbError, match="Input/output error"):
        act(three)
    monkeypatch.undo()
    assert apps(three) == ("3", "3")
    three.switch("hello@2.0")
    assert three.leftovers() == []
