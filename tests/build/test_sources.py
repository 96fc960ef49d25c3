"""Recipes, locks and the sources that need no downloads: what goes in is what was asked for."""

import os
from collections.abc import Mapping
from pathlib import Path

import msgspec
import pytest

from appbundle.build import collect, lock, sbom
from appbundle.build.globs import compile_globs
from appbundle.build.inside import resolve, resolve_parent
from appbundle.build.recipe import Recipe, parse_recipe
from appbundle.build.sources import cache
from appbundle.build.sources.archives import find_archives
from appbundle.build.sources.base import Pin
from appbundle.build.sources.files import Files
from appbundle.build.sources.host import Host
from appbundle.errors import AppbError, BuildError, NotFoundError, UnsupportedError
from tests.build.conftest import MakeSite, Talk
from tests.build.test_encode import Content, make_tree

RECIPE = """
name = "web"
summary = "All"
exclude = ["a"]
[requires]
architecture = "host"
[[sources]]
kind = "files"
directory = "{name}"
[releases."1.0"]
release = 10
summary = "First"
[releases."2.0"]
release = 9
exclude = ["b", "a"]
[[releases."2.0".sources]]
kind = "files"
directory = "files-{version}"
"""


def parse(text: str, release: str | None = None) -> Recipe:
    """Parse a recipe that lies in /recipe."""
    return parse_recipe(text, directory=Path("/recipe"), release=release)


# Recipes ------------------------------------------------------------------------------------------


def test_release_is_merged_into_what_is_common() -> None:
    """A release replaces single values and adds to lists; placeholders are filled in."""
    second = parse(RECIPE, "2.0")
    assert (second.release, second.summary, second.exclude) == (9, "All", ("a", "b"))
    directories = [each.table["directory"] for each in second.sources]
    assert directories == ["web", "files-2.0"]
    assert (second.lock, second.footprint) == (
        Path("/recipe/2.0.lock"),
        Path("/recipe/2.0.footprint"),
    )
    assert second.requires.architecture == os.uname().machine


def test_sources_have_defaults() -> None:
    """A source has the defaults of its kind, and what it says itself wins; a release's do too."""
    text = RECIPE + '[defaults.files]\nto = "{name}"\n'
    text += '[releases."1.0".defaults.files]\nto = "first"\n'
    assert [each.table["to"] for each in parse(text, "1.0").sources] == ["first"]
    assert [each.table["to"] for each in parse(text, "2.0").sources] == ["web", "web"]
    text = text.replace('directory = "files-{version}"', 'directory = "files"\nto = ""')
    assert [each.table["to"] for each in parse(text, "2.0").sources] == ["web", ""]


def test_lists_of_defaults_are_added_to() -> None:
    """A list of a source's own comes after that of the defaults."""
    text = (
        RECIPE
        + """
[[sources]]
kind = "host"
programs = ["/bin/b"]
[defaults.host]
programs = ["/bin/a"]
"""
    )
    assert parse(text, "1.0").sources[1].table["programs"] == ["/bin/a", "/bin/b"]


def test_highest_release_number_is_the_default() -> None:
    """Version strings are not compared: 1.0 with release 10 comes after 2.0 with release 9."""
    assert (parse(RECIPE).version, parse(RECIPE).summary) == ("1.0", "First")


def test_unknown_release_names_those_there_are() -> None:
    """A release that the recipe does not have is not found."""
    with pytest.raises(NotFoundError, match=r"no release 3\.0") as caught:
        parse(RECIPE, "3.0")
    assert caught.value.hint == "it has 1.0, 2.0"


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ('summary = "All"', 'sumary = "All"', "sumary.* at `\\$`"),
        ('summary = "All"', "summary = 1", "`\\$.summary`"),
        ("release = 9", 'release = "9"', '`\\$.releases."2.0".release`'),
        ("release = 9", "release = 10", "same number"),
        ('"files-{version}"', "1", '`\\$.releases."2.0".sources\\[0\\].directory`'),
        ('kind = "files"\ndirectory = "{name}"', 'kind = "tar"', "`\\$.sources\\[0\\].kind`"),
        ("[requires]", 'mount-points = ["../x"]\n[requires]', "`\\$.mount-points`"),
        ('name = "web"', 'name = "Web"', "Web"),
        ("[requires]", "[requires", "line 5"),
    ],
)
def test_mistakes_are_located(before: str, after: str, said: str) -> None:
    """An error in a recipe says where it stands."""
    assert before in RECIPE
    with pytest.raises(AppbError, match=said):
        parse(RECIPE.replace(before, after), "2.0")


# Include ------------------------------------------------------------------------------------------

COMMON = """
include = "base.toml"
summary = "Common"
exclude = ["c"]
[[sources]]
kind = "files"
directory = "files-{name}"
"""
BASE = """
exclude = ["d"]
[requires]
base = "debian-12"
"""


def including(tmp_path: Path, common: str = COMMON, base: str = BASE) -> Recipe:
    """Parse a recipe that includes a file of another directory, which includes one beside it."""
    (tmp_path / "web").mkdir()
    make_tree(tmp_path, {"base/common.toml": common.encode(), "base/base.toml": base.encode()})
    text = 'include = "../base/common.toml"\n' + RECIPE
    return parse_recipe(text, directory=tmp_path / "web", release="2.0")


def test_included_lists_come_first_and_other_values_last(tmp_path: Path) -> None:
    """Lists of an included file are added to; its other values hold where the recipe has none."""
    recipe = including(tmp_path)
    assert (recipe.summary, recipe.exclude) == ("All", ("d", "c", "a", "b"))
    assert recipe.requires.base == ""
    directories = [each.table["directory"] for each in recipe.sources]
    assert directories == ["../base/files-web", "web", "files-2.0"]


@pytest.mark.parametrize(
    ("common", "base", "said"),
    [
        (COMMON, "exclude = 1", r"^../base/common.toml: base.toml: .*`\$.exclude`"),
        (COMMON, 'name = "web"', "base.toml: .*name.* at `\\$`"),
        (COMMON, "[", "base.toml - at `\\$.include`: .*at end of"),
        (COMMON, 'include = "common.toml"', "include each other"),
        ('include = "gone.toml"', BASE, "gone.toml - at `\\$.include`: .*No such file"),
        ("include = 1", BASE, "common.toml: .*`\\$.include`"),
    ],
)
def test_mistakes_of_included_files_are_located(
    tmp_path: Path, common: str, base: str, said: str
) -> None:
    """An error in an included file says in which, and where; no circle is followed for ever."""
    with pytest.raises(BuildError, match=said):
        including(tmp_path, common, base)


# Patterns -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pattern", "yes", "no"),
    [
        ("usr/share/doc", "usr/share/doc", "usr/share/docs"),
        ("usr/*/doc", "usr/share/doc", "usr/share/x/doc"),
        ("**/tests", "tests", "a/contests"),
        ("**/tests", "a/b/tests", "a/tests/c"),
        ("lib/**", "lib/a/b", "lib"),
        ("x?.[a]", "xy.[a]", "x/.[a]"),
    ],
)
def test_patterns(pattern: str, yes: str, no: str) -> None:
    """Stars stay within a name, two stars are any number of names, nothing else is special."""
    matches = compile_globs([pattern])
    assert (matches(yes), matches(no)) == (True, False)


# Locks --------------------------------------------------------------------------------------------

PIN = Pin(name="netbase", version="1:6.4", file="netbase_1%3a6.4_all.deb", sha256="a" * 64)


def test_lock_reads_back_and_has_an_input_a_line(tmp_path: Path) -> None:
    """What was written is read, a review sees single inputs, and the same lock is not rewritten."""
    other = msgspec.structs.replace(PIN, name="six", tool=True)
    source = lock.LockedSource(kind="debian", asked="0" * 64, inputs=(PIN, other))
    written = lock.Lock(architecture="x86_64", sources=(source,))
    assert lock.write_lock(tmp_path / "lock", written)
    assert not lock.write_lock(tmp_path / "lock", written)
    assert lock.read_lock(tmp_path / "lock") == written
    lines = (tmp_path / "lock").read_text().splitlines()
    assert [line.count('"name"') for line in lines] == [0, 0, 1, 1, 0, 0]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("file", "../../etc/passwd"),
        ("file", "a/b.deb"),
        ("file", ""),
        ("name", "--index-url"),
        ("version", "1.0\n--index-url=x"),
        ("sha256", "A" * 64),
        ("sha256", "a" * 63),
        ("sha256", "../" + "a" * 61),
    ],
)
def test_locked_names_are_names(tmp_path: Path, key: str, value: str) -> None:
    """A lock cannot say paths, options or lines, and its digests have one spelling."""
    whole = lock.Lock(
        architecture="x86_64",
        sources=(lock.LockedSource(kind="debian", asked="", inputs=(PIN,)),),
    )
    document = msgspec.to_builtins(whole)
    document["sources"][0]["inputs"][0][key] = value
    (tmp_path / "lock").write_bytes(msgspec.json.encode(document))
    with pytest.raises(BuildError, match="not a") as caught:
        lock.read_lock(tmp_path / "lock")
    assert "--update-lock" in caught.value.hint


def test_asking_for_something_else_needs_a_new_lock(
    tmp_path: Path, make_site: MakeSite, talk: Talk
) -> None:
    """A lock answers the recipe that it was made for, key for key, and no other."""
    make_tree(tmp_path / "recipe/web", {"x": b""})
    text = RECIPE.replace('release = 9\nexclude = ["b", "a"]', "release = 9")

    def run(text: str, locked: lock.Lock | None, *, update: bool = False) -> lock.Lock:
        recipe = parse_recipe(text, directory=tmp_path / "recipe", release="1.0")
        tree = make_site().tree
        return collect.collect(
            recipe, locked, tree, cache=tmp_path / "cache", report=talk, update_lock=update
        ).lock

    first = run(text, None)
    assert run(text, first) == first
    changed = text.replace('directory = "{name}"', 'directory = "{name}"\nto = "x"')
    with pytest.raises(BuildError, match="other sources"):
        run(changed, first)
    assert run(changed, first, update=True) != first


def test_recipe_for_another_architecture_is_refused(tmp_path: Path, talk: Talk) -> None:
    """Sources run programs of the tree, so a tree is made on its own kind of machine."""
    text = RECIPE.replace('"host"', '"pdp11"')
    with pytest.raises(UnsupportedError, match="built on pdp11"):
        collect.collect(parse(text), None, tmp_path, cache=tmp_path, report=talk, update_lock=False)


# Trees --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "where"),
    [
        ("usr/bin/x", "usr/bin/x"),
        ("bin/x", "usr/bin/x"),
        ("/etc/host/passwd", "etc/passwd"),
        ("up/x", "x"),
        ("chain/x", "usr/bin/x"),
        ("not/there/yet", "not/there/yet"),
    ],
)
def test_paths_stay_in_the_tree(tmp_path: Path, path: str, where: str) -> None:
    """Links are followed as in a chroot: absolute ones begin at the tree, and none leads out."""
    links: Mapping[str, Content] = {
        "usr/bin/keep": b"",
        "bin": "-> usr/bin",
        "etc/host": "-> /etc",
        "up": "-> ../../../..",
        "chain": "-> /bin",
    }
    tree = make_tree(tmp_path / "tree", links)
    assert resolve(tree, path) == tree / where
    assert resolve_parent(tree, "bin") == tree / "bin"


def test_links_in_circles_are_an_error(tmp_path: Path) -> None:
    """No path is followed for ever."""
    with pytest.raises(BuildError, match="too many links"):
        resolve(make_tree(tmp_path, {"a": "-> b", "b": "-> a"}), "a/x")


@pytest.fixture
def escape(tmp_path: Path) -> tuple[Path, Mapping[str, Content]]:
    """A directory of the building machine, and a tree with a link to it."""
    outside = tmp_path / "outside"
    outside.mkdir()
    return outside, {"run/keep": b"", "var": f"-> {outside}"}


def test_sources_never_write_out_of_the_tree(
    make_site: MakeSite, escape: tuple[Path, Mapping[str, Content]]
) -> None:
    """A link to an absolute path leads to that path of the tree, not of the building machine."""
    outside, links = escape
    site = make_site(tree=links)
    make_tree(site.directory / "files", {"var/lib/x": b"x", "var/here": "-> lib"})
    Files(directory="files").add(site, None)
    inner = site.tree / str(outside).lstrip("/")
    assert (inner / "lib/x").read_bytes() == b"x"
    assert os.listdir(outside) == []


def test_mount_points_and_bill_of_materials_stay_in_the_tree(tmp_path: Path) -> None:
    """What appb itself adds goes through no link either."""
    outside = make_tree(tmp_path / "outside", {"hosts": b"the machine's"})
    tree = make_tree(
        tmp_path / "tree", {"etc/hosts": f"-> {outside}/hosts", "usr": f"-> {outside}"}
    )
    collect.make_mount_points(tree, parse(RECIPE))
    sbom.write(tree, b"{}")
    assert not (tree / "etc/hosts").is_symlink()
    assert (tree / "etc/hosts").read_bytes() == b""
    assert os.listdir(outside) == ["hosts"]
    assert (tree / "var/lib/web").is_dir()


def test_files_win_over_what_is_there(make_site: MakeSite) -> None:
    """A later source replaces files and links, and keeps the executable bit only."""
    site = make_site(tree={"etc/conf": "-> other", "etc/other": b"kept", "bin/x": b"old"})
    origin = make_tree(site.directory / "files", {"etc/conf": b"new", "bin/x": b"x"})
    (origin / "bin/x").chmod(0o775)
    (origin / "etc/conf").chmod(0o646)
    added = Files(directory="files").add(site, None)
    assert [(site.tree / "etc" / name).read_bytes() for name in ("conf", "other")] == [
        b"new",
        b"kept",
    ]
    assert (site.tree / "bin/x").stat().st_mode & 0o777 == 0o755
    # Writable by everybody is not a matter of umask: it stays, so that the checks name it.
    assert (site.tree / "etc/conf").stat().st_mode & 0o777 == 0o646
    assert [part.name for part in added.components] == ["bin/x", "etc/conf"]


@pytest.mark.parametrize("to", ["..", "x/../../y", "/etc"])
def test_files_stay_below_the_root(make_site: MakeSite, to: str) -> None:
    """A recipe cannot place files outside of the tree."""
    site = make_site()
    make_tree(site.directory / "files", {"x": b""})
    with pytest.raises(BuildError, match="outside the tree"):
        Files(directory="files", to=to).add(site, None)


def test_odd_file_names_have_package_urls(make_site: MakeSite) -> None:
    """A file whose name means something in a URL is still named in the bill of materials."""
    site = make_site()
    make_tree(site.directory / "files", {"a b#c%20?@d": b""})
    (part,) = Files(directory="files").add(site, None).components
    content = sbom.encode(
        name="web",
        version="1.0",
        licence="",
        created=0,
        parts=[sbom.Part(name=part.name, version="", sha256=part.sha256, purl=part.purl)],
    )
    assert b'"name": "a b#c%20?@d"' in content


def test_host_programs_come_with_their_libraries(make_site: MakeSite) -> None:
    """A program of the host runs in the tree: interpreter and libraries are there."""
    from appbundle.build.checks import Expectations, find_issues

    site = make_site()
    Host(programs=("/bin/sh",)).add(site, None)
    assert find_issues(site.tree, Expectations(programs=("/bin/sh",))) == ()


def test_missing_host_programs_are_named_together(make_site: MakeSite) -> None:
    """All programs that the host lacks are in one error."""
    with pytest.raises(BuildError) as caught:
        Host(programs=("/no/one", "/bin/sh", "two")).add(make_site(), None)
    assert caught.value.issues == ("/no/one", "two")


def test_damaged_download_counts_as_missing(tmp_path: Path) -> None:
    """A file in the cache is believed only with its digest."""
    (tmp_path / "download").write_bytes(b"content")
    pin = msgspec.structs.replace(PIN, sha256=cache.keep(tmp_path / "cache", tmp_path / "download"))
    assert cache.find_missing(tmp_path / "cache", [pin, PIN]) == [PIN]
    found = cache.find(tmp_path / "cache", pin)
    assert found is not None
    found.write_bytes(b"Content")
    assert cache.find_missing(tmp_path / "cache", [pin]) == [pin]


# The host's archives ------------------------------------------------------------------------------

KEY = """-----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 mDMEZ
 -----END PGP PUBLIC KEY BLOCK-----"""


def test_archives_of_the_suite_are_taken_as_they_are(tmp_path: Path) -> None:
    """Both of apt's notations, with options and keys; other suites, sources and disabled ones stay
    out."""
    (tmp_path / "sources.list.d").mkdir()
    (tmp_path / "sources.list").write_text(
        "# deb http://a bookworm main\n"
        "deb [arch=amd64 signed-by=/k.gpg] http://b/debian bookworm main # comment\n"
        "deb-src http://b/debian bookworm main\n"
        "deb http://b/debian trixie main\n"
        "deb cdrom:[Debian 12 _Bookworm_ - DVD]/ bookworm main\n"
    )
    (tmp_path / "sources.list.d/more.list").write_text("deb http://s bookworm-security main\n")
    (tmp_path / "sources.list.d/debian.sources").write_text(
        "Types: deb deb-src\n# why\nURIs: http://c\nSuites: trixie bookworm bookworm-updates\n"
        f"Components: main\nSigned-By: {KEY}\n\n"
        "Types: deb\nURIs: http://d\nSuites: bookworm\nComponents: main\nEnabled: no\n"
    )
    assert find_archives(tmp_path, "bookworm") == {
        ".list": "deb [arch=amd64 signed-by=/k.gpg] http://b/debian bookworm main # comment\n"
        "deb http://s bookworm-security main\n",
        ".sources": "Types: deb\nURIs: http://c\nSuites: bookworm bookworm-updates\n"
        f"Components: main\nSigned-By: {KEY}\n",
    }
    assert find_archives(tmp_path, "sid") == {}
