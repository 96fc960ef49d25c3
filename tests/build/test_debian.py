"""The source `debian`: against a small archive of its own, by real apt, mmdebstrap and dpkg-deb."""

import hashlib
import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest

from appbundle.build.sources import cache, debian
from appbundle.build.sources.base import Added, Pin
from appbundle.build.sources.debian import Debian
from appbundle.errors import BuildError
from appbundle.system.process import ProgramError
from tests.build.conftest import MakeSite, Talk
from tests.build.test_encode import Content, make_tree

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root for mmdebstrap"),
    pytest.mark.skipif(not shutil.which("mmdebstrap"), reason="mmdebstrap is not installed"),
]


@dataclass(frozen=True)
class Archive:
    """A Debian archive in a directory, and an apt configuration that names it."""

    path: Path

    @property
    def apt(self) -> Path:
        """Instead of /etc/apt."""
        return self.path / "apt"

    def publish(self, *packages: Path) -> None:
        """Make these packages all that the archive has."""
        pool = self.path / "pool"
        shutil.rmtree(pool, ignore_errors=True)
        pool.mkdir(parents=True)
        index = "\n".join(self._describe(Path(shutil.copy(each, pool))) for each in packages)
        for architecture in ("amd64", "arm64"):
            directory = self.path / f"dists/test/main/binary-{architecture}"
            directory.mkdir(parents=True, exist_ok=True)
            (directory / "Packages").write_text(index)
        self._release(index.encode())
        entry = f"deb [trusted=yes] file:{self.path} test main\n"
        (self.apt / "sources.list.d").mkdir(parents=True, exist_ok=True)
        (self.apt / "sources.list").write_text(entry)

    def _describe(self, package: Path) -> str:
        control = subprocess.run(
            ["dpkg-deb", "--field", package], check=True, capture_output=True, text=True, timeout=60
        ).stdout
        content = package.read_bytes()
        return (
            f"{control}Filename: pool/{package.name}\nSize: {len(content)}\n"
            f"SHA256: {hashlib.sha256(content).hexdigest()}\n"
        )

    def _release(self, index: bytes) -> None:
        sums = "".join(
            f" {hashlib.sha256(index).hexdigest()} {len(index)} main/binary-{each}/Packages\n"
            for each in ("amd64", "arm64")
        )
        (self.path / "dists/test/Release").write_text(
            "Suite: test\nCodename: test\nArchitectures: amd64 arm64 all\nComponents: main\n"
            f"Date: Sat, 01 Jan 2022 00:00:00 UTC\nSHA256:\n{sums}"
        )


def make_package(
    directory: Path, name: str, version: str, content: Mapping[str, Content], depends: str = ""
) -> Path:
    """Make a package whose scripts would be noticed."""
    room = directory / f"{name}-{version}"
    make_tree(room, content)
    script = "#!/bin/sh\ntouch /script-was-run\n"
    control = (
        f"Package: {name}\nVersion: {version}\nArchitecture: all\nMaintainer: x <x@example.org>\n"
        + (f"Depends: {depends}\nRecommends: nice\n" if depends else "")
        + "Description: test\n"
    )
    make_tree(room, {"DEBIAN/control": control.encode(), "DEBIAN/postinst": script.encode()})
    (room / "DEBIAN/postinst").chmod(0o755)
    target = directory / f"{name}_{version}_all.deb"
    command = ["dpkg-deb", "--root-owner-group", "-Zgzip", "--build", str(room), str(target)]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    return target


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Archive:
    """An archive of three packages: `web` needs `base`, and would like `nice`."""
    made = Archive(tmp_path / "archive")
    monkeypatch.setattr(debian, "_APT", made.apt)
    debs = tmp_path / "debs"
    web: Mapping[str, Content] = {"bin/web": b"web", "usr/lib/web/x": b"1", "lib/web/y": b"2"}
    made.publish(
        make_package(debs, "base", "1.0", {"etc/base.conf": b"x", "etc/alias": "-> base.conf"}),
        make_package(debs, "web", "1.0", web, depends="base (>= 1.0)"),
        make_package(debs, "nice", "1.0", {"usr/nice": b""}),
    )
    return made


def upgrade(archive: Archive, tmp_path: Path) -> None:
    """Let the archive have newer packages only."""
    debs = tmp_path / "newer"
    archive.publish(
        make_package(debs, "base", "1.1", {"etc/base.conf": b"y"}),
        make_package(debs, "web", "1.1", {"bin/web": b"web"}, depends="base (>= 1.0)"),
    )


def lock(make_site: MakeSite) -> tuple[Pin, ...]:
    """Build once from what the archive has."""
    return Debian(suite="test", packages=("web",)).add(make_site(), None).pins


def add(make_site: MakeSite, pins: tuple[Pin, ...], **more: str) -> Added:
    """Build from a lock."""
    return Debian(suite="test", packages=("web",), **more).add(make_site(), pins)  # type: ignore[arg-type]


def empty(tmp_path: Path) -> None:
    """Lose the cache."""
    shutil.rmtree(tmp_path / "cache")
    (tmp_path / "cache").mkdir()


def test_packages_come_with_dependencies_and_without_scripts(
    archive: Archive, make_site: MakeSite, talk: Talk
) -> None:
    """Depends come, Recommends do not, nothing is run, /bin and /lib are merged into /usr."""
    site = make_site()
    added = Debian(suite="test", packages=("web",)).add(site, None)
    assert [(pin.name, pin.version) for pin in added.pins] == [("base", "1.0"), ("web", "1.0")]
    found = {str(each.relative_to(site.tree)) for each in site.tree.rglob("*")}
    assert {"usr/bin/web", "usr/lib/web/x", "usr/lib/web/y", "etc/base.conf"} <= found
    assert os.readlink(site.tree / "bin") == "usr/bin"
    assert not {each for each in found if "script-was-run" in each or each.startswith("DEBIAN")}
    assert [each.purl for each in added.components] == [
        "pkg:deb/debian/base@1.0?arch=all",
        "pkg:deb/debian/web@1.0?arch=all",
    ]
    assert talk.progress.count((2, 2)) == 2  # downloaded, and extracted


def test_second_build_needs_no_archive(archive: Archive, make_site: MakeSite, talk: Talk) -> None:
    """What is locked and in the cache is not asked for again."""
    pins = lock(make_site)
    shutil.rmtree(archive.path)
    assert add(make_site, pins).pins == pins
    assert talk.steps[-1] == "extracting 2 Debian packages"


def test_other_content_than_locked_is_refused(archive: Archive, make_site: MakeSite) -> None:
    """A package of the right name and version, but with other bytes, is named with both digests."""
    base, web = lock(make_site)
    wrong = msgspec.structs.replace(web, sha256="0" * 64)
    with pytest.raises(BuildError, match="differ from the lock") as caught:
        add(make_site, (base, wrong))
    assert caught.value.issues == (f"web 1.0: {web.sha256}, locked is {'0' * 64}",)


def test_vanished_versions_are_refused(
    archive: Archive, make_site: MakeSite, tmp_path: Path
) -> None:
    """All locked versions that the archive no longer has are named."""
    pins = lock(make_site)
    upgrade(archive, tmp_path)
    assert add(make_site, pins).pins == pins
    empty(tmp_path)
    with pytest.raises(BuildError, match="no longer have all locked") as caught:
        add(make_site, pins)
    assert "--update-lock" in caught.value.hint
    assert caught.value.issues == (
        "Version '1.0' for 'base' was not found",
        "Version '1.0' for 'web' was not found",
    )


def test_recipe_may_move_on(
    archive: Archive, make_site: MakeSite, talk: Talk, tmp_path: Path
) -> None:
    """With moved-on = "newer" a build takes the newer versions, and says which instead of which."""
    pins = lock(make_site)
    upgrade(archive, tmp_path)
    assert not add(make_site, pins, moved_on="newer").moved_on
    empty(tmp_path)
    added = add(make_site, pins, moved_on="newer")
    assert added.moved_on
    assert {pin.version for pin in added.pins} == {"1.1"}
    assert talk.notes == [
        "newer than the lock: base 1.1 instead of base 1.0",
        "newer than the lock: web 1.1 instead of web 1.0",
    ]


def test_what_is_left_out_is_not_locked(archive: Archive, make_site: MakeSite) -> None:
    """A package that matches `without` is neither locked nor extracted, whoever depends on it."""
    site = make_site()
    added = Debian(suite="test", packages=("web",), without=("b*e",)).add(site, None)
    assert [pin.name for pin in added.pins] == ["web"]
    assert not (site.tree / "etc/base.conf").exists()


def test_only_what_is_missing_is_downloaded(
    archive: Archive, make_site: MakeSite, tmp_path: Path
) -> None:
    """A version that is gone from the archive but in the cache does no harm."""
    base, web = lock(make_site)
    found = cache.find(tmp_path / "cache", web)
    assert found is not None
    found.unlink()
    kept = next((tmp_path / "debs").glob("web_*"))
    archive.publish(make_package(tmp_path / "newer", "base", "1.1", {}), kept)
    assert add(make_site, (base, web)).pins == (base, web)


def test_unknown_package_and_suite(archive: Archive, make_site: MakeSite) -> None:
    """What no archive of the host has is said in apt's words; a suite that it has not, in ours."""
    with pytest.raises(ProgramError, match="Unable to locate package nonesuch"):
        Debian(suite="test", packages=("nonesuch",)).add(make_site(), None)
    with pytest.raises(BuildError, match="do not name the suite sid"):
        Debian(suite="sid", packages=("web",)).add(make_site(), None)


def test_packages_merge_as_dpkg_would(tmp_path: Path) -> None:
    """Modes lose setuid but not what others may write; a link of one package leads the next."""
    outside = tmp_path / "outside"
    outside.mkdir()
    first = make_tree(tmp_path / "1", {"usr/lib/x": f"-> {outside}", "sbin/su": b"", "etc/w": b""})
    (first / "sbin/su").chmod(0o4755)
    (first / "etc/w").chmod(0o664)
    second = make_tree(tmp_path / "2", {"lib/x/file": b"x"})
    tree = make_tree(tmp_path / "tree", {})
    tree.mkdir()
    debian.move_merged(first, tree)
    debian.move_merged(second, tree)
    assert [(tree / each).stat().st_mode & 0o7777 for each in ("usr/sbin/su", "etc/w")] == [
        0o755,
        0o664,
    ]
    assert os.listdir(outside) == []
    assert (tree / str(outside).lstrip("/") / "file").read_bytes() == b"x"


def test_file_where_another_has_a_directory_is_an_error(tmp_path: Path) -> None:
    """Two packages that cannot both be there are not mixed."""
    tree = make_tree(tmp_path / "tree", {"etc/x/y": b""})
    with pytest.raises(BuildError, match="etc/x is a file in one package"):
        debian.move_merged(make_tree(tmp_path / "parts", {"etc/x": b""}), tree)
