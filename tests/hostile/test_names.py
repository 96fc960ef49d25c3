"""Hostile names and links in a correctly signed manifest. docs/security.md: 1-6, 11, 15, 18-22."""

from collections.abc import Callable

import pytest

from appbundle.bundle import manifest as entries
from tests.bundles import WEB, Dir, Draft, Entry, File, Link, Node, complete, draft, renamed
from tests.hostile.refusal import assert_refused

PART = "a path with an empty, . or .. part"
CONTROL = "control or bidirectional characters"
TWICE = "out of order, or a path stands twice"


def file_named(path: str) -> Callable[[], Draft]:
    """An honest bundle but for one file's name."""
    return lambda: renamed(draft({"first": File("x"), "lib/one": File("y")}), "first", path)


def directory_named(path: str) -> Callable[[], Draft]:
    """An honest bundle but for one directory's name."""
    return lambda: renamed(draft({"first": Dir(), "x": File("x")}), "first", path)


def link_named(path: str) -> Callable[[], Draft]:
    """An honest bundle but for one link's name."""
    return lambda: renamed(draft({"first": Link("lib"), "lib": Dir()}), "first", path)


def undeclared(**links: str) -> Callable[[], Draft]:
    """A bundle with links that are not declared as outward."""
    tree = {path.replace("__", "/"): Link(target) for path, target in links.items()}
    return lambda: draft(WEB | tree).change(outward=())


def with_tables(**tables: object) -> Callable[[], Draft]:
    """The small application with other tables."""
    return lambda: draft(WEB).change(**tables).with_frames()


def through_link() -> Draft:
    """A link to somewhere, and a file that would be written through it."""
    made = draft({"out": Dir(), "out/planted": File("x"), "z": File("z")})
    return made.change(
        directories=(), links=(entries.Link("out", "../../../../outside"),), outward=("out",)
    ).with_frames()


def through_link_that_is_a_directory() -> Draft:
    """The same path as directory and as link: whichever is made last wins."""
    made = draft({"out": Dir(), "out/planted": File("x")})
    return made.change(
        links=(entries.Link("out", "../../outside"),), outward=("out",)
    ).with_frames()


def below_a_file() -> Draft:
    """A file with something below it."""
    return renamed(draft({"a": File("x"), "b": File("y")}), "b", "a/b")


def twice_as_file() -> Draft:
    """The same path twice in the file table, with different contents."""
    return renamed(draft({"a": File("good"), "b": File("evil")}), "b", "a")


def twice_by_release() -> Draft:
    """The same path twice, in different releases, so that both are in order."""
    made = draft({"a": File("good"), "b": File("evil")}, release=2)
    return renamed(made.change_file(1, since=2), "b", "a")


def file_and_link() -> Draft:
    """A file and a link of the same name."""
    return renamed(draft({"a": File("x"), "l": Link("b"), "b": Dir()}), "l", "a")


def many_entries() -> Draft:
    """One entry more than allowed."""
    return draft({}).change(directories=tuple(f"{n:06d}" for n in range(250_001)))


def loop_of_links() -> Draft:
    """Links that never arrive."""
    return draft(WEB | {"a": Link("b"), "b": Link("a")}).change(outward=())


def chain_of_links() -> Draft:
    """Each link is harmless by itself; together they climb out."""
    links: dict[str, Entry] = {
        "a/b/c": Dir(),
        "one": Link("a/b/c"),
        "two": Link("one/../../.."),
        "end": Link("two/.."),
    }
    return draft(WEB | links).change(outward=())


def deep_chain_of_links() -> Draft:
    """CVE-2025-4517's shape: link after link through deep directories, then one step too many."""
    tree: dict[str, Link | Dir] = {}
    here = ""
    for letter in "abcdefghijklmnop":
        directory = here + "d" * 200
        tree[directory] = Dir()
        tree[here + letter] = Link("d" * 200)
        here = directory + "/"
    short = "/".join("abcdefghijklmnop")
    tree["escape"] = Link(f"{short}/" + "../" * 17 + "outside")
    return draft(tree).change(outward=())


CASES: list[tuple[str, Callable[[], Draft], str]] = [
    ("1-parent", file_named("../evil"), "not below a directory of the bundle: ../evil"),
    ("1-only-dots", file_named(".."), f"{PART}: .."),
    ("1-inner", file_named("lib/../evil"), "not below a directory of the bundle: lib/../evil"),
    ("1-last", file_named("lib/.."), f"{PART}: lib/.."),
    ("1-dot", file_named("."), PART),
    ("1-dot-slash", file_named("./evil"), "not below a directory of the bundle: ./evil"),
    ("1-double-slash", file_named("lib//evil"), "not below a directory of the bundle: lib//evil"),
    ("1-trailing-slash", file_named("lib/"), f"{PART}: lib/"),
    ("1-empty", file_named(""), PART),
    ("1-directory", directory_named(".."), f"{PART}: .."),
    ("1-directory-dot", directory_named("."), PART),
    ("1-directory-deep", directory_named("../../../../outside/new"), "not below a directory"),
    ("1-directory-empty", directory_named(""), PART),
    ("1-link", link_named("../evil"), "not below a directory of the bundle: ../evil"),
    ("1-link-dots", link_named(".."), PART),
    ("2-file", file_named("/evil"), "an absolute path: /evil"),
    ("2-etc", file_named("/etc/cron.d/evil"), "an absolute path: /etc/cron.d/evil"),
    ("2-double", file_named("//evil"), "an absolute path: //evil"),
    ("2-directory", directory_named("/evil"), "an absolute path: /evil"),
    ("2-link", link_named("/evil"), "an absolute path: /evil"),
    ("3-write-through", through_link, "not below a directory of the bundle: out/planted"),
    ("3-link-and-directory", through_link_that_is_a_directory, "a path stands twice: out"),
    ("3-below-file", below_a_file, "not below a directory of the bundle: a/b"),
    ("4-chain", chain_of_links, "a link that leaves the bundle and is not declared: end"),
    ("4-deep-chain", deep_chain_of_links, "a link that leaves the bundle and is not declared"),
    ("4-loop", loop_of_links, "a link that leaves the bundle and is not declared: a"),
    ("5-part", file_named("x" * 256), "a name over 255 or a path over 4095 bytes: xxx"),
    ("5-part-bytes", file_named("é" * 128), "a name over 255"),
    (
        "5-path",
        lambda: draft({"/".join(["d" * 250] * 17): File("x")}),
        "a name over 255 or a path over 4095 bytes",
    ),
    (
        "5-depth",
        lambda: draft({"/".join("d" * 65) + "/file": File("x")}),
        "deeper than 64 directories: d/d/",
    ),
    ("6-absolute", undeclared(evil="/etc/shadow"), "is not declared: evil"),
    ("6-relative", undeclared(evil="../../../outside/secret"), "is not declared: evil"),
    ("6-from-below", undeclared(lib__evil="../.."), "is not declared: lib/evil"),
    ("6-by-a-sibling", undeclared(evil="lib/../.."), "is not declared: evil"),
    ("6-empty-target", undeclared(evil=""), "a link's target is empty, too long"),
    ("6-long-target", undeclared(evil="x/" * 2048), "a link's target is empty, too long"),
    (
        "6-control",
        undeclared(evil="lib\x1b[2J"),
        "a link's target is empty, too long or has control",
    ),
    ("6-nul", undeclared(evil="lib\0/../.."), "a link's target is empty, too long or has control"),
    (
        "6-declared-but-none",
        with_tables(outward=("lib",)),
        "declared as an outward link, but is none: lib",
    ),
    (
        "6-declared-twice",
        lambda: draft(WEB | {"e": Link("/etc")}).change(outward=("e", "e")),
        TWICE,
    ),
    ("15-entries", many_entries, "more than 250000 entries: 250001"),
    ("18-file", twice_as_file, f"{TWICE}: a"),
    ("18-other-release", twice_by_release, "a path stands twice: a"),
    ("18-file-and-link", file_and_link, "a path stands twice: a"),
    ("18-directory", with_tables(directories=("bin", "bin", "lib")), f"{TWICE}: bin"),
    ("18-unsorted", with_tables(directories=("lib", "bin")), f"{TWICE}: bin"),
    ("20-newline", file_named("lib/a\nb"), f"{CONTROL}: lib/a\\nb"),
    ("20-escape", file_named("lib/a\x1b]0;owned\x07"), f"{CONTROL}: lib/a\\x1b]0;owned\\x07"),
    ("20-delete", file_named("lib/a\x7f"), f"{CONTROL}: lib/a\\x7f"),
    ("20-c1", file_named("lib/a\x9b2J"), f"{CONTROL}: lib/a\\x9b2J"),
    ("20-bidi", file_named("lib/a\u202egpj.exe"), f"{CONTROL}: lib/a\\u202egpj.exe"),
    ("20-isolate", file_named("lib/a\u2066b\u2069"), f"{CONTROL}: lib/a\\u2066b\\u2069"),
    ("20-line-separator", file_named("lib/a\u2028b"), f"{CONTROL}: lib/a\\u2028b"),
    ("20-directory", directory_named("a\r"), f"{CONTROL}: a\\r"),
    ("20-link", link_named("a\t"), f"{CONTROL}: a\\t"),
    ("21-parent", file_named("li\x1b[2Jb/x"), "not below a directory of the bundle: li\\x1b[2Jb/x"),
    (
        "21-summary",
        with_tables(summary="nice\x1b[8m hidden"),
        "a description is too long or has control characters: nice\\x1b[8m hidden",
    ),
    ("21-licence", with_tables(licence="MIT\u202e"), "a description is too long or has control"),
    (
        "21-run",
        with_tables(run=entries.Run(argv=("/bin/web", "\x1b[2J"))),
        "the command to run has control characters or is too long: \\x1b[2J",
    ),
    ("22-name", file_named("lib/a\0b"), f"{CONTROL}: lib/a\\x00b"),
    ("22-directory", directory_named("a\0"), f"{CONTROL}: a\\x00"),
    ("22-summary", with_tables(summary="shown\0hidden"), "control characters: shown\\x00hidden"),
    ("reserved", directory_named(".bundle"), "the name is reserved: .bundle"),
    ("reserved-file", file_named(".bundle"), "the name is reserved: .bundle"),
    ("reserved-link", link_named(".bundle"), "the name is reserved: .bundle"),
    (
        "reserved-below",
        file_named(".bundle/signed"),
        "not below a directory of the bundle: .bundle/signed",
    ),
    (
        "run-relative",
        with_tables(run=entries.Run(argv=("bin/web",))),
        "the command to run is not an absolute path",
    ),
    (
        "run-variable",
        with_tables(run=entries.Run(argv=("/bin/web",), environment={"A=B": "c"})),
        "not the name of an environment variable: A=B",
    ),
]


@pytest.mark.parametrize(
    ("make", "words"), [case[1:] for case in CASES], ids=[case[0] for case in CASES]
)
def test_hostile_entry_is_refused(
    running: Node, make: Callable[[], Draft], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A signed manifest that breaks a rule is refused by name of rule and entry, without trace."""
    assert_refused(running, running.write(make()), "bad-manifest", words, capsys=capsys)


@pytest.mark.parametrize(
    ("name", "version", "words"),
    [
        ("../etc", "1", "the statement does not have the form"),
        ("Web", "1", "the statement does not have the form"),
        ("-web", "1", "-web is not an app's name"),
        ("a" * 27, "1", "the statement does not have the form"),
        ("web", "..", ".. is not a version"),
        ("web", "1/../../2", "1/../../2 is not a version"),
        ("web", "current", "current is not a version"),
        ("web", "1\x1b[2J", "the statement does not have the form"),
        ("web", "", "the statement does not have the form"),
        ("web", "v" * 64, "the statement does not have the form"),
    ],
)
def test_hostile_name_or_version_is_refused(
    running: Node, name: str, version: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Name and version become directories: the signed statement may not say just anything."""
    made = draft(name=name, version=version)
    assert_refused(running, running.write(made), "corrupt", words, capsys=capsys)


def test_case_and_unicode_twins_are_both_installed(node: Node) -> None:
    """Row 19: names that differ only by case or normal form are different files here."""
    twins = {
        "README": File("upper"),
        "readme": File("lower"),
        "caf\u00e9": File("composed"),
        "cafe\u0301": File("decomposed"),
    }
    node.install(node.write(draft(twins)))
    assert node.tree() == complete(twins)
