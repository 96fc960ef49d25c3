"""Verifying finds every difference from what was signed, and repairing makes it whole."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from appbundle.errors import AppbError, ConflictError, CorruptError, NotFoundError, UnknownKeyError
from appbundle.flows import verify as verifying
from appbundle.names import parse_ref
from appbundle.store import check
from appbundle.trust import keys
from tests.bundles import picture, read_tree
from tests.crash.support import NOW, Node, make_bundle

Bundle = Callable[[str, int], Path]

HERE = "hello/2.0"


@pytest.fixture
def running(node: Node, bundle: Bundle) -> Node:
    """A node with hello 1.0 and 2.0 and another app, all of which share contents."""
    for number in (1, 2):
        node.install(bundle("hello", number))
    node.install(bundle("other", 1))
    return node


def overwrite(path: Path, content: bytes = b"!") -> None:
    """Change a file in place, so that all its links change; size and time stay."""
    before = path.stat()
    with open(path, "r+b") as file:
        file.write(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def replace_by_file(path: Path) -> None:
    """Put a file of our own in the place of anything."""
    shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    path.write_bytes(b"other content\n")


def replace_by_link(path: Path, target: str = "/etc/hostname") -> None:
    """Put a link in the place of anything."""
    shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    path.symlink_to(target)


def replace_by_fifo(path: Path) -> None:
    """Put a pipe there, which would let a careless reader wait for ever."""
    path.unlink()
    os.mkfifo(path, 0o644)


def forge(about: Path, **values: object) -> None:
    """Change what a version says of itself."""
    said = json.loads(about.read_text())
    about.write_text(json.dumps(said | values))


def object_of(node: Node, path: str) -> Path:
    """The pool's object of a file."""
    inode = (node.layout.apps / path).stat().st_ino
    (found,) = (each for each in node.objects() if each.stat().st_ino == inode)
    return found


def cut_short(path: Path) -> None:
    """Leave out the last byte."""
    path.write_bytes(path.read_bytes()[:-1])


def take_papers(tree: Path, other: Path) -> None:
    """Give a version the genuine papers of another one."""
    for name in ("signed", "manifest.tar.zst"):
        shutil.copy(other / ".bundle" / name, tree / ".bundle" / name)


Damage = Callable[[Node, Path], object]

DAMAGES: dict[str, tuple[Damage, dict[str, str]]] = {
    "changed": (lambda n, t: overwrite(t / "share/version"), {"share/version": "changed"}),
    "changed for all": (
        lambda n, t: overwrite(t / "share/common"),
        {"share/common": "changed", "share/twin": "changed"},
    ),
    "appended": (
        lambda n, t: (t / "share/empty").write_bytes(b"not empty"),
        {"share/empty": "changed"},
    ),
    "other file": (lambda n, t: replace_by_file(t / "share/common"), {"share/common": "changed"}),
    "link for file": (lambda n, t: replace_by_link(t / "bin/hello"), {"bin/hello": "unreadable"}),
    "pipe for file": (
        lambda n, t: replace_by_fifo(t / "share/version"),
        {"share/version": "not a regular file"},
    ),
    "missing": (lambda n, t: (t / "bin/hello").unlink(), {"bin/hello": "missing"}),
    "missing directory": (
        lambda n, t: shutil.rmtree(t / "bin"),
        {"bin": "missing", "bin/hello": "missing"},
    ),
    "link for directory": (
        lambda n, t: replace_by_link(t / "bin", "../1.0/bin"),
        {"bin": "not a directory"},
    ),
    "missing link": (lambda n, t: (t / "share/link").unlink(), {"share/link": "missing"}),
    "changed link": (
        lambda n, t: replace_by_link(t / "share/link", "version"),
        {"share/link": "points to version instead of common"},
    ),
    "file for link": (lambda n, t: replace_by_file(t / "share/link"), {"share/link": "not a link"}),
    "extra file": (lambda n, t: (t / "bin/extra").touch(), {"bin/extra": "extra"}),
    "extra directory": (lambda n, t: (t / "extra/x").mkdir(parents=True), {"extra": "extra"}),
    "extra paper": (lambda n, t: (t / ".bundle/x").touch(), {".bundle/x": "extra"}),
    "open file": (
        lambda n, t: (t / "share/version").chmod(0o666),
        {"share/version": "mode 0666 instead of 0644"},
    ),
    "setuid for all": (
        lambda n, t: (t / "bin/hello").chmod(0o4755),
        {"bin/hello": "mode 4755 instead of 0755"},
    ),
    "open directory": (
        lambda n, t: (t / "share").chmod(0o777),
        {"share": "mode 0777 instead of 0755"},
    ),
    "closed version": (lambda n, t: t.chmod(0o700), {"": "mode 0700 instead of 0755"}),
    "open description": (
        lambda n, t: (t / ".bundle/about.json").chmod(0o666),
        {".bundle/about.json": "mode 0666"},
    ),
    "manifest": (
        lambda n, t: overwrite(t / ".bundle/manifest.tar.zst"),
        {".bundle": "not the one that was signed"},
    ),
    "no manifest": (
        lambda n, t: (t / ".bundle/manifest.tar.zst").unlink(),
        {".bundle": "cannot be read"},
    ),
    "signature": (lambda n, t: cut_short(t / ".bundle/signed"), {".bundle": "ends early"}),
    "papers of another version": (
        lambda n, t: take_papers(t, n.version("hello", "1.0")),
        {".bundle": "papers of hello"},
    ),
    "no description": (
        lambda n, t: (t / ".bundle/about.json").unlink(),
        {".bundle/about.json": "missing"},
    ),
    "broken description": (
        lambda n, t: (t / ".bundle/about.json").write_bytes(b'{"dig'),
        {".bundle/about.json": "damaged"},
    ),
}
FORGERIES: dict[str, object] = {
    "digest": "0" * 64,
    "size_bytes": 1,
    "files": 1,
    "signers": ["SHA256:somebody"],
}


@pytest.mark.parametrize("name", DAMAGES)
def test_damage_is_found_and_repaired(running: Node, bundle: Bundle, name: str) -> None:
    """Each kind of damage is named with its path, and repair from the bundle leaves none."""
    tree = running.version("hello", "2.0")
    before = read_tree(tree)
    act, expected = DAMAGES[name]
    act(running, tree)
    found = running.problems()
    for path, words in expected.items():
        assert words in found[f"{HERE}/{path}".rstrip("/")]
    verifying.repair_from(running.context(NOW + 1), str(bundle("hello", 2)))
    assert running.problems() == {}
    assert read_tree(tree) == before
    assert running.leftovers() == []


@pytest.mark.parametrize("key", FORGERIES)
def test_forged_description_is_found_and_repaired(running: Node, bundle: Bundle, key: str) -> None:
    """A version cannot say of itself what its signed papers do not say."""
    forge(running.version("hello", "2.0") / ".bundle/about.json", **{key: FORGERIES[key]})
    found = running.problems()
    assert found == {"hello/2.0/.bundle/about.json": "not what the manifest says"}
    verifying.repair_from(running.context(), str(bundle("hello", 2)))
    assert running.problems() == {}


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: chown")
def test_foreign_owner_is_found_and_repaired(running: Node, bundle: Bundle) -> None:
    """An owner could change his file at any time, so it is as bad as changed."""
    os.chown(running.version("hello", "2.0") / "share/common", 65534, 65534)
    assert "belongs to 65534" in running.problems()["hello/2.0/share/common"]
    verifying.repair_from(running.context(), str(bundle("hello", 2)))
    assert running.problems() == {}


def test_shared_damage_is_repaired_for_all(running: Node, bundle: Bundle) -> None:
    """Versions of any app that shared a damaged content are whole again with one repair."""
    overwrite(running.version("hello", "2.0") / "share/common")
    damaged = set(running.problems())
    assert {f"{it}/share/common" for it in ("hello/1.0", "hello/2.0", "other/1.0")} <= damaged
    done = verifying.repair_from(running.context(), str(bundle("hello", 2)))
    assert (done.objects, done.relinked) == (1, 4)
    assert running.problems() == {}


def test_repair_stays_with_what_it_has(running: Node, bundle: Bundle) -> None:
    """Damage of another version that the bundle cannot mend is left, and still reported."""
    overwrite(running.version("hello", "1.0") / "share/version")
    verifying.repair_from(running.context(), str(bundle("hello", 2)))
    assert "hello/1.0/share/version" in running.problems()


def test_damaged_object_is_found_and_not_handed_on(running: Node, bundle: Bundle) -> None:
    """An object that is no longer its content is named; verify with one app looks only if asked."""
    target = object_of(running, "hello/2.0/share/common")
    replace_by_file(target)
    place = f".appb/objects/{target.relative_to(running.layout.objects)}"
    assert running.problems() == {place: "damaged pool object"}
    assert running.verify("hello").ok
    full = verifying.verify(running.context(), parse_ref("hello"), full=True)
    assert [each.path for each in full.problems] == [place]
    verifying.repair_from(running.context(), str(bundle("hello", 2)))
    assert running.problems() == {}


@pytest.mark.parametrize(
    ("path", "target"),
    [
        ("hello/current", "2.0"),
        ("hello/current", None),
        (".appb/generations/3/hello", "../../../hello/1.0"),
        (".appb/generations/3/hello", None),
    ],
)
def test_links_that_services_follow_are_checked(
    running: Node, bundle: Bundle, path: str, target: str | None
) -> None:
    """A link that leads elsewhere than the record says is named, though every file is right."""
    link = running.layout.apps / path
    link.unlink()
    if target:
        link.symlink_to(target)
    found = running.problems()
    assert list(found) == [path]
    assert ("missing" if target is None else f"a link to {target}") in found[path]


def test_one_damage_hides_no_other(running: Node) -> None:
    """A version that cannot even be described does not keep the others from being looked at."""
    (running.version("hello", "1.0") / ".bundle/about.json").write_bytes(b"")
    overwrite(running.version("other", "1.0") / "share/version")
    found = running.problems()
    assert {"hello/1.0/.bundle/about.json", "other/1.0/share/version"} <= set(found)


def test_key_that_is_trusted_no_more_is_reported(running: Node) -> None:
    """Whoever takes a key away learns which versions came from it."""
    running.layout.allowed_signers.write_text("")
    found = running.problems()
    assert "does not know" in found["hello/1.0/.bundle/signed"]
    assert "does not know" in found["other/1.0/.bundle/signed"]


@pytest.mark.parametrize(
    ("ref", "error"), [("hello@9.0", NotFoundError), ("nobody", NotFoundError)]
)
def test_only_what_is_there_can_be_verified(
    running: Node, ref: str, error: type[Exception]
) -> None:
    """Verifying nothing is not a success."""
    with pytest.raises(error):
        running.verify(ref)


def test_verifying_one_version_ignores_the_others(running: Node) -> None:
    """With a version named, only that one is judged."""
    overwrite(running.version("hello", "1.0") / "share/version")
    assert running.verify("hello@2.0").ok
    assert running.verify("other").ok
    assert not running.verify("hello@1.0").ok
    assert not running.verify("hello").ok


def test_verifying_changes_nothing(running: Node) -> None:
    """A node can be verified at any time, also one that is damaged."""
    overwrite(running.version("hello", "1.0") / "share/version")
    before = picture(running.root)
    running.verify()
    assert picture(running.root) == before


def test_every_inode_is_read_once(running: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    """What versions share costs one reading, so verifying does not grow with their number."""
    read: list[int] = []
    digest = check._digest

    def count(fd: int) -> str:
        read.append(os.fstat(fd).st_ino)
        return digest(fd)

    monkeypatch.setattr(check, "_digest", count)
    running.verify()
    assert len(read) == len(set(read))


def test_repair_takes_only_the_very_bundle(running: Node, memory: Path, bundle: Bundle) -> None:
    """Another content, a version that is not there and a stranger's bundle are refused."""
    stranger = keys.load_private_key(keys.generate().private)
    before = picture(running.root)
    wrong: list[tuple[Path, type[AppbError]]] = [
        (make_bundle(memory, "hello", "2.0", tree={"other": b"x"}), ConflictError),
        (bundle("hello", 3), NotFoundError),
        (make_bundle(memory, "other", "1.0", key=stranger), UnknownKeyError),
    ]
    for path, error in wrong:
        with pytest.raises(error):
            verifying.repair_from(running.context(), str(path))
    assert picture(running.root) == before


def test_repair_keeps_when_it_came(running: Node, bundle: Bundle) -> None:
    """A repaired version is as old as it was, so gc judges it as before."""
    before = (running.version("hello", "2.0") / ".bundle/about.json").read_bytes()
    replace_by_file(running.version("hello", "2.0") / "bin/hello")
    verifying.repair_from(running.context(NOW + 9), str(bundle("hello", 2)))
    assert (running.version("hello", "2.0") / ".bundle/about.json").read_bytes() == before


@pytest.fixture
def directory(memory: Path) -> Path:
    """A bundle directory."""
    return make_bundle(memory, "hello", "1.0", as_directory=True)


def test_files_and_directories_are_verified_before_installing(
    node: Node, bundle: Bundle, directory: Path
) -> None:
    """A bundle is checked wholly, in either form, without being installed."""
    for path in (bundle("hello", 1), directory):
        found = verifying.verify_file(node.context(), str(path))
        assert (found.ok, found.checked_files) == (True, 5)
    overwrite(directory / "share/version")
    found = verifying.verify_file(node.context(), str(directory))
    assert [(p.path, p.problem) for p in found.problems] == [("share/version", "changed")]
    (directory / "share/extra").touch()
    with pytest.raises(CorruptError, match="share/extra"):
        verifying.verify_file(node.context(), str(directory))
    assert node.looks().versions == frozenset()
