"""Looking: what a bundle is, what differs between two of them, and between two generations."""

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from appbundle.bundle.services import Service
from appbundle.errors import AppbError, NotFoundError, UnknownKeyError, UsageError
from appbundle.flows import describe
from tests.bundles import picture
from tests.crash.support import Node, Tree, make_bundle, run_cli

Bundle = Callable[[str, int], Path]


@pytest.fixture
def upgraded(node: Node, memory: Path) -> Node:
    """A node with two versions of web that differ in every way an entry can."""
    before: Tree = {
        "bin/tool": b"tool\n",
        "lib/same": b"same\n",
        "lib/grows": b"1\n",
        "lib/other": b"abc\n",
        "lib/goes": b"gone\n",
        "lib/link": "-> same",
        "lib/becomes": "-> same",
        "old/x": b"x\n",
    }
    after: Tree = {
        "lib/tool": b"tool\n",
        "lib/same": b"same\n",
        "lib/grows": b"1\n2\n",
        "lib/other": b"xyz\n",
        "lib/link": "-> other",
        "lib/becomes": b"file\n",
        "bin/lib": b"new\n",
    }
    for release, tree in ((1, before), (2, after)):
        made = make_bundle(memory, "web", f"{release}.0", release=release, tree=tree)
        node.install(made)
    return node


def test_diff_of_versions_names_every_entry(upgraded: Node) -> None:
    """Each entry that came, went or changed in kind, mode, size, target or content is listed."""
    found = describe.diff(upgraded.context(), "web@1.0", "web@2.0")
    assert isinstance(found, describe.VersionDiff)
    assert [(d.path, d.before, d.after, d.size_change) for d in found.files] == [
        ("bin/lib", None, "file 0755 4 bytes", 4),
        ("bin/tool", "file 0755 5 bytes", None, -5),
        ("lib/becomes", "link → same", "file 0644 5 bytes", 5),
        ("lib/goes", "file 0644 5 bytes", None, -5),
        ("lib/grows", "file 0644 2 bytes", "file 0644 4 bytes", 2),
        ("lib/link", "link → same", "link → other", 0),
        ("lib/other", "file 0644 4 bytes", "file 0644 4 bytes", 0),
        ("lib/tool", None, "file 0644 5 bytes", 5),
        ("old", "directory 0755", None, 0),
        ("old/x", "file 0644 2 bytes", None, -2),
    ]
    assert found.fields == (("release", "1", "2"),)


def test_openings_are_said_in_words(node: Node, memory: Path) -> None:
    """What a service may do is said as a sentence, by info and where two versions differ in it."""
    service = Service(name="web", argv=("/bin/web", "two words"), environment={"A": "b c"})
    wider = msgspec.structs.replace(service, entitlements=("listen", "read:/srv"), change="keep")
    for release, each in ((1, service), (2, wider)):
        node.install(make_bundle(memory, "web", f"{release}.0", release=release, services=(each,)))
    found = describe.diff(node.context(), "web@1.0", "web@2.0")
    assert isinstance(found, describe.VersionDiff)
    may = "listens on the host's network; reads the host's /srv"
    assert found.fields == (
        ("release", "1", "2"),
        ("service web change", "-", "keep"),
        ("service web may", "-", may),
    )
    lines = run_cli(node, "info", "web").stdout.splitlines()
    assert [line.split("  ")[0] for line in lines if line.startswith("service")] == [
        *("service web", "service web environment", "service web change", "service web may")
    ]
    assert any(line.endswith(may) for line in lines)


def test_diff_of_equals_is_empty(upgraded: Node) -> None:
    """A version does not differ from itself, nor from the file that it came from."""
    file = str(upgraded.root.parent / "web-1.0.bundle")
    for other in ("web@1.0", file):
        found = describe.diff(upgraded.context(), "web@1.0", other)
        assert isinstance(found, describe.VersionDiff)
        assert (found.fields, found.files) == ((), ())


def test_diff_of_apps_says_so(upgraded: Node, bundle: Bundle) -> None:
    """Two apps may be compared, but not be mistaken for two versions of one."""
    upgraded.install(bundle("hello", 1))
    found = describe.diff(upgraded.context(), "web", "hello")
    assert isinstance(found, describe.VersionDiff)
    assert ("name", "web", "hello") in found.fields


def test_diff_of_generations(node: Node, bundle: Bundle) -> None:
    """Apps that differ between two generations are listed with both versions, either way round."""
    node.install(bundle("hello", 1), bundle("other", 1))
    node.install(bundle("hello", 2), bundle("third", 1))
    found = describe.diff(node.context(), "1", "2")
    assert isinstance(found, describe.GenerationDiff)
    assert found.apps == (("hello", "1.0", "2.0"), ("third", None, "1.0"))
    found = describe.diff(node.context(), "2", "1")
    assert isinstance(found, describe.GenerationDiff)
    assert found.apps == (("hello", "2.0", "1.0"), ("third", "1.0", None))


@pytest.mark.parametrize(
    ("first", "second", "error"),
    [
        ("1", "web@1.0", UsageError),
        ("1", "9", NotFoundError),
        ("web@1.0", "web@9.0", NotFoundError),
        ("web@1.0", "./nowhere.bundle", NotFoundError),
        ("web@1.0", "Web", UsageError),
    ],
)
def test_what_cannot_be_compared_is_said(
    upgraded: Node, first: str, second: str, error: type[AppbError]
) -> None:
    """A generation and a version, or what is not there, is an error and no empty difference."""
    with pytest.raises(error):
        describe.diff(upgraded.context(), first, second)


def test_info_is_the_same_before_and_after(node: Node, bundle: Bundle) -> None:
    """A file and the version that it became are described alike, but for when it came."""
    before = describe.info(node.context(), str(bundle("hello", 1))).about
    node.install(bundle("hello", 1))
    after = describe.info(node.context(), "hello").about
    assert (after.manifest, after.digest, after.files) == (
        before.manifest,
        before.digest,
        before.files,
    )
    assert (before.installed_at, after.installed_at) == (0, node.context().now)


def test_looking_at_strangers_is_refused(node: Node, bundle: Bundle) -> None:
    """The manifest of a bundle that is not trusted is not looked into; its statement may be."""
    node.layout.allowed_signers.write_text("")
    path = str(bundle("hello", 1))
    with pytest.raises(UnknownKeyError):
        describe.info(node.context(), path)
    with pytest.raises(UnknownKeyError):
        describe.diff(node.context(), path, path)
    assert describe.statement(node.context(), path).statement.startswith(b"appb-bundle-v1\n")


@pytest.mark.parametrize(
    "words",
    [
        ("list",),
        ("history",),
        ("info", "web"),
        ("diff", "1", "2"),
        ("diff", "web@1.0", "web@2.0"),
        ("verify",),
        ("switch", "--previous", "-n"),
        ("gc", "-n"),
    ],
)
def test_looking_changes_nothing(upgraded: Node, words: tuple[str, ...]) -> None:
    """Commands that look leave every file as it was."""
    before = picture(upgraded.root)
    assert run_cli(upgraded, *words).status == 0
    assert picture(upgraded.root) == before
