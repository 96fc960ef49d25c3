"""`export`: what a node without a network gets, and believes no more than a repository."""

import hashlib
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from appbundle.names import AppName, Digest, Version
from appbundle.repository import configured
from appbundle.repository.configured import Repository
from tests.crash.support import Node, new_node, run_cli
from tests.repository.publisher import Publisher

HELLO = AppName("hello")

Bundle = Callable[[str, int], Path]


@dataclass(frozen=True, slots=True)
class Site:
    """A repository, and nodes that know its first root.

    Args:
        base: Holds everything.
        repo: Its publisher.
        root: The first root's metadata.
    """

    base: Path
    repo: Publisher
    root: bytes

    def node(self, name: str, folder: Path) -> Node:
        """A node whose only repository is a folder; it trusts no key by itself."""
        node = new_node(self.base / name)
        node.layout.allowed_signers.unlink()
        digest = Digest(hashlib.sha256(self.root).hexdigest())
        known = Repository(name="site", urls=(f"file://{folder}",), root_sha256=digest)
        configured.add(node.layout, known, self.root)
        return node

    @property
    def stick(self) -> Path:
        """What is carried from one node to the other."""
        return self.base / "stick"


@pytest.fixture
def site(memory: Path, bundle: Bundle) -> Site:
    """A repository with two apps."""
    repo = Publisher(memory)
    repo.publish(bundle("hello", 1), bundle("other", 1))
    return Site(memory, repo, repo.folder.role("root", 1).read_bytes())


@pytest.fixture
def cut_off(site: Site) -> Node:
    """A node that has an app from the repository, and cannot reach that any more."""
    node = site.node("first", site.repo.folder.path)
    assert run_cli(node, "install", "hello").status == 0
    site.repo.folder.path.rename(site.base / "away")
    return node


def test_excerpt_is_a_repository(site: Site, cut_off: Node) -> None:
    """A node that knows the first root installs from the excerpt; it has nothing else."""
    said = run_cli(cut_off, "--json", "export", str(site.stick))
    assert [(each["name"], each["repository"]) for each in said.document["bundles"]] == [
        ("hello", "site")
    ]
    lonely = site.node("second", site.stick / "site")
    assert run_cli(lonely, "install", "hello").status == 0
    assert run_cli(lonely, "verify").status == 0
    assert run_cli(lonely, "install", "other").status == 10


def test_exported_file_is_the_published_one(site: Site, cut_off: Node, bundle: Bundle) -> None:
    """The bundle is packed again, byte for byte, under the name that the repository gives it."""
    said = run_cli(cut_off, "--json", "export", "hello", str(site.stick))
    path = said.document["bundles"][0]["path"]
    assert (site.stick / path).read_bytes() == bundle("hello", 1).read_bytes()
    assert (site.base / "away" / Path(path).relative_to("site")).exists()


@pytest.mark.parametrize("which", ["1.hello.json", "timestamp.json", "bundle"])
def test_changed_excerpt_is_refused(site: Site, cut_off: Node, which: str) -> None:
    """Whatever somebody changes on the way is refused, and nothing is installed."""
    assert run_cli(cut_off, "export", str(site.stick)).status == 0
    (path,) = site.stick.rglob(f"*{which}")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    lonely = site.node("second", site.stick / "site")
    assert run_cli(lonely, "install", "hello").status in (20, 21)
    assert run_cli(lonely, "--json", "list").document == {"apps": []}


def test_bundle_from_a_file_is_exported_loose(node: Node, memory: Path, bundle: Bundle) -> None:
    """A bundle that is in no repository comes as the very file that was installed."""
    assert run_cli(node, "install", str(bundle("hello", 1))).status == 0
    assert run_cli(node, "export", str(memory / "stick")).status == 0
    (file,) = (memory / "stick").iterdir()
    assert file.name == "hello-1.0.bundle"
    assert file.read_bytes() == bundle("hello", 1).read_bytes()


def test_signed_anew_is_exported_loose(site: Site, cut_off: Node, bundle: Bundle) -> None:
    """Installed with other signatures than were published, it is no file of the repository."""
    version = cut_off.layout.version(HELLO, Version("1.0"))
    double = shutil.copy(bundle("hello", 1), site.base / "double.bundle")
    second = site.base / "second.key"
    assert run_cli(cut_off, "key", "new", "--no-passphrase", str(second)).status == 0
    assert run_cli(cut_off, "sign", str(double), "--key", str(second)).status == 0
    unpacked = site.base / "unpacked"
    cut_off.trust()
    assert run_cli(cut_off, "unpack", str(double), str(unpacked)).status == 0
    shutil.copy(unpacked / ".bundle/signed", version / ".bundle/signed")
    said = run_cli(cut_off, "--json", "export", str(site.stick))
    assert [each["path"] for each in said.document["bundles"]] == ["hello-1.0.bundle"]
    assert (site.stick / "hello-1.0.bundle").read_bytes() == Path(double).read_bytes()


def test_what_is_there_is_not_written_again(site: Site, cut_off: Node) -> None:
    """Exporting once more touches no file."""

    def stamps() -> dict[Path, int]:
        return {each: each.stat().st_mtime_ns for each in site.stick.rglob("*") if each.is_file()}

    assert run_cli(cut_off, "export", str(site.stick)).status == 0
    before = stamps()
    assert run_cli(cut_off, "export", str(site.stick)).status == 0
    assert stamps() == before


def test_generation_is_exported_as_it_was(node: Node, memory: Path, bundle: Bundle) -> None:
    """A number means that generation's versions, whatever is current."""
    assert run_cli(node, "install", str(bundle("hello", 1))).status == 0
    assert run_cli(node, "install", str(bundle("hello", 2))).status == 0
    assert run_cli(node, "export", "1", str(memory / "stick")).status == 0
    assert os.listdir(memory / "stick") == ["hello-1.0.bundle"]


def test_changed_file_is_not_exported(node: Node, memory: Path, bundle: Bundle) -> None:
    """A version of which a file is not what was signed makes no bundle."""
    assert run_cli(node, "install", str(bundle("hello", 1))).status == 0
    file = next(
        each for each in node.layout.version(HELLO, Version("1.0")).rglob("*") if each.is_file()
    )
    file.chmod(0o644)
    file.write_bytes(b"x" * file.stat().st_size)
    assert run_cli(node, "export", str(memory / "stick")).status == 21
    assert not list((memory / "stick").rglob("*.bundle"))


@pytest.fixture
def fat(tmp_path: Path) -> Iterator[Path]:
    """A stick with the file system that sticks come with: no links, no modes."""
    if os.geteuid() != 0 or shutil.which("mkfs.vfat") is None:
        pytest.skip("needs root and mkfs.vfat")
    image, place = tmp_path / "image", tmp_path / "stick"
    place.mkdir()
    with image.open("wb") as file:
        file.truncate(16 << 20)
    subprocess.run(["mkfs.vfat", image], check=True, capture_output=True)
    if subprocess.run(["mount", "-o", "loop", image, place], check=False).returncode:
        pytest.skip("this kernel has no vfat")
    yield place
    subprocess.run(["umount", place], check=True)


@pytest.mark.root
def test_stick_may_have_any_file_system(site: Site, cut_off: Node, fat: Path) -> None:
    """An excerpt on a FAT file system is as good."""
    assert run_cli(cut_off, "export", str(fat / "appb")).status == 0
    lonely = site.node("second", fat / "appb/site")
    assert run_cli(lonely, "install", "hello").status == 0
