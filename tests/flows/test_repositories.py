"""Repositories of a node: added by a hash that a person typed, listed, searched, removed."""

import dataclasses
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from appbundle.errors import (
    AppbError,
    ConflictError,
    ExpiredMetadataError,
    NotFoundError,
    UnsignedMetadataError,
    UsageError,
)
from appbundle.flows import repositories
from appbundle.flows.context import Context, Silent
from appbundle.names import AppName
from appbundle.repository import addition, bindings, configured
from appbundle.repository.addition import WrongRootError
from tests.crash.support import Node, argv
from tests.repository.publisher import NOW, Publisher, first_root, use
from tests.repository.simulator import Simulator

Bundle = Callable[[str, int], Path]


@pytest.fixture
def publisher(memory: Path, bundle: Bundle) -> Publisher:
    """A repository with hello 1.0 and 2.0, and web 1.0 for those who follow edge."""
    made = Publisher(memory)
    made.publish(bundle("hello", 1), bundle("hello", 2))
    made.publish(bundle("web", 1), channels=("edge",))
    return made


@pytest.fixture
def context(node: Node) -> Context:
    """What flows are given."""
    return node.context(NOW)


def address(publisher: Publisher) -> str:
    """The line that its publisher gives away."""
    folder = publisher.base / "repo"
    return f"file://{folder}#sha256={first_root(folder)}"


class Notes(Silent):
    """Keeps what is noted."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def note(self, text: str) -> None:
        """Keep it."""
        self.said.append(text)


def state(node: Node) -> set[str]:
    """All files of a node."""
    return {str(each.relative_to(node.root)) for each in node.root.rglob("*")}


def test_added_repository_is_listed(context: Context, publisher: Publisher) -> None:
    """What is added is listed with its address and hash, and when it was last good."""
    text = address(publisher)
    made = repositories.add(context, text, mirrors=["file:///mirror"])
    assert made.name == "repo"
    (known,) = repositories.known(context)
    assert known.repository == made
    assert made.urls == (text.partition("#")[0], "file:///mirror")
    assert text.endswith(made.root_sha256)
    assert known.refreshed_at == NOW


def test_address_without_a_hash_is_refused(context: Context, publisher: Publisher) -> None:
    """Nothing is trusted because of where it is."""
    url, _, digest = address(publisher).partition("#")
    for text in (url, f"{url}#sha256=", f"{url}#{digest.upper()}", f"{url}#sha256={'0' * 63}"):
        with pytest.raises(UsageError):
            repositories.add(context, text)


@pytest.mark.parametrize(
    "text",
    [
        "http://user:word@example.org/x",
        "ftp://example.org/x",
        "file://host/x",
        "file:relative",
        "https://",
        "https://example.org/x?y",
        "https://example.org/\x1b[31m",
        "https://example.org/a b",
    ],
)
def test_odd_address_is_refused(context: Context, text: str) -> None:
    """An address that means several things, or has a secret in it, is none: attack 63."""
    with pytest.raises(UsageError):
        repositories.add(context, f"{text}#sha256={'0' * 64}", name="odd")


def test_other_root_is_refused_and_nothing_is_stored(
    node: Node, context: Context, publisher: Publisher
) -> None:
    """A root with another hash is not trusted, now or later: attack 67."""
    before = state(node)
    with pytest.raises(WrongRootError):
        repositories.add(context, f"{address(publisher)[:-64]}{'0' * 64}")
    assert state(node) == before


def forge(served: Simulator) -> None:
    """Sign the timestamp with nobody's key."""
    served.write("timestamp", keys=[])


def age(served: Simulator) -> None:
    """Let it be out of date."""
    served.signed["timestamp"].expires = served.signed["timestamp"].expires.replace(year=2020)
    served.publish()


def withhold(served: Simulator) -> None:
    """Serve no snapshot."""
    (served.folder / "metadata/1.snapshot.json").unlink()


@pytest.mark.parametrize(
    ("spoil", "error"),
    [(forge, UnsignedMetadataError), (age, ExpiredMetadataError), (withhold, NotFoundError)],
)
def test_repository_that_cannot_be_believed_is_not_stored(
    node: Node,
    context: Context,
    memory: Path,
    spoil: Callable[[Simulator], None],
    error: type[AppbError],
) -> None:
    """The right root is not enough: what follows from it has to be good too."""
    served = Simulator(memory / "served")
    spoil(served)
    before = state(node)
    with pytest.raises(error):
        repositories.add(context, f"file://{served.folder}#sha256={served.first_root_sha256()}")
    assert state(node) == before


def test_name_is_given_once(context: Context, publisher: Publisher) -> None:
    """A name that is taken is a conflict; another one is not."""
    repositories.add(context, address(publisher))
    with pytest.raises(ConflictError):
        repositories.add(context, address(publisher))
    repositories.add(context, address(publisher), name="again")
    assert configured.names(context.layout) == ["again", "repo"]


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("https://Apps.Example.ORG:8443/x", "apps.example.org"),
        ("file:///media/USB%20Stick", "usb-stick"),
        ("file:///srv/www", "www"),
    ],
)
def test_name_is_made_of_the_address(url: str, name: str) -> None:
    """It is the host, or the last part of a path."""
    assert addition.name_of(url) == name


def test_removed_repository_leaves_bindings(context: Context, publisher: Publisher) -> None:
    """An app stays bound to a repository that is removed: it comes from no other unasked."""
    repositories.add(context, address(publisher))
    bindings.bind(context.layout, AppName("hello"), "repo")
    assert repositories.remove(context, "repo") == ("hello",)
    assert list(repositories.known(context)) == []
    assert not context.layout.repository("repo").exists()
    notes = Notes()
    repositories.add(dataclasses.replace(context, report=notes), address(publisher))
    assert "hello" in notes.said[-1]
    with pytest.raises(NotFoundError):
        repositories.remove(context, "other")


@pytest.mark.parametrize(
    ("word", "found"),
    [("", ["hello", "web"]), ("HELL", ["hello"]), ("eb", ["web"]), ("nothing", [])],
)
def test_search_finds_by_a_part_of_the_name(
    context: Context, publisher: Publisher, word: str, found: list[str]
) -> None:
    """Upper and lower case are the same, and no word finds everything."""
    repositories.add(context, address(publisher))
    hits = repositories.search(context, word)
    assert [each.app for each in hits] == found


def test_search_says_the_newest_of_each_channel(context: Context, publisher: Publisher) -> None:
    """A hit has its newest version for each channel."""
    repositories.add(context, address(publisher))
    hello, web = repositories.search(context, "")
    assert {name: each.version for name, each in hello.entry.channels.items()} == {"stable": "2.0"}
    assert {name: each.version for name, each in web.entry.channels.items()} == {"edge": "1.0"}


def test_search_leaves_out_what_cannot_be_asked(
    context: Context, publisher: Publisher, memory: Path
) -> None:
    """One repository that is gone hides no other; if all are, that is an error."""
    gone = Simulator(memory / "gone")
    repositories.add(context, f"file://{gone.folder}#sha256={gone.first_root_sha256()}")
    gone.folder.rename(memory / "elsewhere")
    with pytest.raises(NotFoundError):
        repositories.search(context, "")
    repositories.add(context, address(publisher))
    notes = Notes()
    hits = repositories.search(dataclasses.replace(context, report=notes), "")
    assert len(hits) == 2
    assert "gone" in notes.said[0]


def test_catalog_that_somebody_changed_is_refused(context: Context, publisher: Publisher) -> None:
    """What is searched is what the repository's keys vouch for."""
    repositories.add(context, address(publisher))
    for file in (publisher.base / "repo/targets/catalog").iterdir():
        file.write_bytes(file.read_bytes().replace(b"hello", b"hallo"))
    with pytest.raises(AppbError, match="another catalog"):
        repositories.search(context, "")


@pytest.mark.root
def test_without_a_network_everything_else_works(
    node: Node, bundle: Bundle, publisher: Publisher
) -> None:
    """Where no server can be reached, that is said; what needs none works."""
    if os.geteuid() != 0:
        pytest.skip("needs root: a network of its own")
    use(node.layout, publisher.base / "repo", "disk")
    site = configured.read(node.layout, "disk")
    away = dataclasses.replace(site, name="away", urls=("http://192.0.2.1/repo",))
    configured.add(node.layout, away, configured.read_pinned(node.layout, site))
    alone = ("unshare", "--net")

    def said(*words: str) -> int:
        command = [*alone, *argv(node, *words)]
        return subprocess.run(command, capture_output=True).returncode

    assert said("install", str(bundle("web", 1))) == 0
    assert said("install", "--from", "disk", "hello") == 0
    assert said("install", "--from", "away", "hello") == 23
    assert said("search", "hello") == 0
