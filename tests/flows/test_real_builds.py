"""Whole builds by the command: the tiny recipe of the project anywhere, real packages from afar."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from appbundle.build import sbom
from tests.build.test_encode import make_tree

REPOSITORY = Path(__file__).resolve().parents[2]
NO_NETWORK = ["unshare", "--net"]
NOBODY = ["unshare", "--user", "--map-user=1000", "--map-group=1000", "--net"]
"""Neither root nor any privilege nor network, but the owner of the same files."""

RECIPE = """
name = "real"
licence = "MIT"
exclude = ["etc/*", "usr/libexec/dpkg", "usr/sbin/*", "usr/share/bug", "usr/bin/dpkg*",
           "usr/lib/python3.*/sitecustomize.py"]
[run]
argv = ["/usr/bin/python3", "-c", "import six"]
[[sources]]
kind = "debian"
suite = "bookworm"
packages = ["python3-minimal", "libpython3.11-stdlib"]
[[sources]]
kind = "python"
requirements = ["six==1.17.0"]
[releases."1.0"]
release = 1
"""


def build(
    recipe: Path, target: Path, *more: str, cache: Path, within: list[str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run `appb build` as a process of its own."""
    argv = [sys.executable, "-m", "appbundle", "--json", "build", str(recipe), "-o", str(target)]
    return subprocess.run(
        [*(within or []), *argv, "--cache", str(cache), *more],
        env={**os.environ, "SOURCE_DATE_EPOCH": "1700000000", "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        timeout=600,
    )


def digest(file: Path) -> str:
    """SHA-256 of a file."""
    return hashlib.sha256(file.read_bytes()).hexdigest()


def allows(wrapper: list[str]) -> bool:
    """Whether this machine lets us run something so."""
    if not shutil.which("unshare"):
        return False
    return subprocess.run([*wrapper, "true"], capture_output=True, timeout=60).returncode == 0


@pytest.mark.parametrize("release", ["1.0", "2.0"])
def test_hello_builds_without_root_network_and_cache(tmp_path: Path, release: str) -> None:
    """The tiny recipe gives the same bytes twice, each time from nothing, and is left as it was."""
    if not allows(NOBODY):
        pytest.skip("this kernel allows no user namespaces")
    recipe = REPOSITORY / "bundles/hello"
    before = {path: path.read_bytes() for path in recipe.rglob("*") if path.is_file()}
    digests = set()
    for name in ("one", "two"):
        target = tmp_path / f"{name}.bundle"
        more = ("--release", release)
        done = build(recipe, target, *more, cache=tmp_path / name, within=NOBODY)
        assert done.returncode == 0, done.stdout
        digests.add(digest(target))
    assert len(digests) == 1
    assert {path: path.read_bytes() for path in recipe.rglob("*") if path.is_file()} == before


@pytest.mark.root
@pytest.mark.network
@pytest.mark.slow
def test_real_packages_twice_the_second_time_offline(memory: Path) -> None:
    """Debian's Python with a wheel becomes a bundle; from the lock and the cache it becomes the
    same bytes without any network; from an empty cache too."""
    if os.geteuid() != 0 or not shutil.which("mmdebstrap") or not allows(NO_NETWORK):
        pytest.skip("needs root, mmdebstrap and namespaces")
    recipe, tree = memory / "recipe", memory / "tree"
    make_tree(recipe, {"recipe.toml": RECIPE.encode()})
    for name, cache, more, within in (
        ("first", "cache", (), []),
        ("offline", "cache", ("--dir", str(tree)), NO_NETWORK),
        ("afresh", "other", (), []),
    ):
        target = memory / f"{name}.bundle"
        done = build(recipe, target, "--level", "1", *more, cache=memory / cache, within=within)
        assert done.returncode == 0, done.stdout
    assert len({digest(file) for file in memory.glob("*.bundle")}) == 1
    said = subprocess.run(
        ["chroot", tree, "/usr/bin/python3", "-c", "import six; print(six.__cached__)"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "six.cpython-" in said.stdout, said.stderr
    parts = {each["purl"] for each in json.loads((tree / sbom.PATH).read_text())["components"]}
    assert "pkg:pypi/six@1.17.0" in parts
    assert any(part.startswith("pkg:deb/debian/libc6@") for part in parts)
