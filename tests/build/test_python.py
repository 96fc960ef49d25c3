"""The source `python`: against a small index of its own, by real pip in the tree's interpreter."""

import hashlib
import io
import os
import re
import shutil
import tarfile
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import pytest

from appbundle.build.sources import cache
from appbundle.build.sources.base import Pin, Site
from appbundle.build.sources.pip import parse_configuration
from appbundle.build.sources.python import Python
from appbundle.errors import BuildError
from appbundle.system.process import ProgramError
from tests.build.conftest import MakeSite, Talk
from tests.build.test_normalise import make_python

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root for namespaces"),
]

BACKEND = """
import os, socket, sys, zipfile
def _write(directory, name, content):
    with zipfile.ZipFile(os.path.join(directory, name), "w") as wheel:
        for path, text in content.items():
            wheel.writestr(zipfile.ZipInfo(path), text)
    return name
METADATA = "Metadata-Version: 2.1\\nName: made\\nVersion: 1.0\\n"
WHEEL = "Wheel-Version: 1.0\\nGenerator: x\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n"
def prepare_metadata_for_build_wheel(directory, settings=None):
    os.mkdir(os.path.join(directory, "made-1.0.dist-info"))
    with open(os.path.join(directory, "made-1.0.dist-info/METADATA"), "w") as file:
        file.write(METADATA)
    return "made-1.0.dist-info"
def build_wheel(directory, settings=None, metadata=None):
    seen = f"interfaces = {[name for _, name in socket.if_nameindex()]!r}\\n"
    seen += f"environment = {sorted(os.environ)!r}\\n"
    return _write(directory, "made-1.0-py3-none-any.whl", {
        "made.py": seen,
        "made-1.0.dist-info/METADATA": METADATA,
        "made-1.0.dist-info/WHEEL": WHEEL,
        "made-1.0.dist-info/RECORD": "".join(
            f"{p},,\\n" for p in ("made.py", *(f"made-1.0.dist-info/{n}" for n in (
                "METADATA", "WHEEL", "RECORD")))),
    })
"""


@dataclass(frozen=True)
class Index:
    """A package index in a directory."""

    path: Path
    environment: dict[str, str] = field(default_factory=dict)

    def publish(self, file: str, content: bytes) -> None:
        """Offer a file; its name says of which project."""
        project = self.path / re.split(r"-\d", file)[0]
        project.mkdir(parents=True, exist_ok=True)
        (project / file).write_bytes(content)
        names = sorted(each.name for each in project.iterdir() if each.name != "index.html")
        links = "".join(f'<a href="{name}">{name}</a>' for name in names)
        (project / "index.html").write_text(f"<!DOCTYPE html><html><body>{links}</body></html>")


def make_wheel(
    name: str, version: str, files: Mapping[str, str], requires: Sequence[str] = ()
) -> tuple[str, bytes]:
    """Make a wheel; gives file name and content."""
    info = f"{name}-{version}.dist-info"
    needs = "".join(f"Requires-Dist: {each}\n" for each in requires)
    every = {
        **files,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{needs}",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: x\nRoot-Is-Purelib: true\n"
        "Tag: py3-none-any\n",
        f"{info}/entry_points.txt": f"[console_scripts]\n{name} = {name}:main\n",
    }
    every[f"{info}/RECORD"] = "".join(f"{path},,\n" for path in (*every, f"{info}/RECORD"))
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as wheel:
        for path, text in every.items():
            wheel.writestr(zipfile.ZipInfo(path), text)
    return f"{name}-{version}-py3-none-any.whl", stream.getvalue()


def make_source(name: str, version: str) -> tuple[str, bytes]:
    """Make a source archive that is built by the project `tool`."""
    texts = {
        "pyproject.toml": '[build-system]\nrequires = ["tool"]\nbuild-backend = "tool"\n',
        "PKG-INFO": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
    }
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        for path, text in texts.items():
            member = tarfile.TarInfo(f"{name}-{version}/{path}")
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text.encode()))
    return f"{name}-{version}.tar.gz", stream.getvalue()


WEB = make_wheel("web", "1.0", {"web/__init__.py": "def main():\n    pass\n"}, ["util>=1"])
UTIL = make_wheel("util", "1.5", {"util.py": "def main():\n    pass\n"})


@pytest.fixture(scope="session")
def interpreter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tree with this machine's Python."""
    tree = tmp_path_factory.mktemp("python")
    make_python(tree, extensions=True)
    return tree


@pytest.fixture
def index(tmp_path: Path) -> Index:
    """An index with `web`, which needs `util`, and nothing else."""
    path = tmp_path / "index"
    where = {"PIP_CONFIG_FILE": "/dev/null", "PIP_INDEX_URL": f"file://{path}"}
    made = Index(path, where)
    for each in (WEB, UTIL, make_wheel("util", "1.4", {})):
        made.publish(*each)
    return made


@pytest.fixture
def site(make_site: MakeSite, interpreter: Path, index: Index) -> Site:
    """A place to work that has an interpreter and knows the index."""
    made = make_site(environment=index.environment)
    shutil.copytree(
        interpreter, made.tree, symlinks=True, dirs_exist_ok=True, copy_function=os.link
    )
    return made


@pytest.fixture
def again(make_site: MakeSite, site: Site) -> Site:
    """Another, for a second build; it has the same cache."""
    made = make_site(environment=site.environment)
    shutil.copytree(site.tree, made.tree, symlinks=True, dirs_exist_ok=True, copy_function=os.link)
    return made


def list_added(site: Site, interpreter: Path) -> set[str]:
    """What is in the tree beside the interpreter; directories left out."""
    before = {str(each.relative_to(interpreter)) for each in interpreter.rglob("*")}
    return {
        path
        for each in site.tree.rglob("*")
        if not each.is_dir() and (path := str(each.relative_to(site.tree))) not in before
    }


def pin(wheel: tuple[str, bytes]) -> Pin:
    """Lock a wheel."""
    name, version = wheel[0].split("-")[:2]
    digest = hashlib.sha256(wheel[1]).hexdigest()
    return Pin(name=name, version=version, file=wheel[0], sha256=digest)


SOURCE = Python(requirements=("web",))
PINS = (pin(UTIL), pin(WEB))


def test_packages_come_with_what_they_require(site: Site, interpreter: Path, talk: Talk) -> None:
    """Requirements and theirs are installed by hash; neither pip nor byte code stays."""
    added = SOURCE.add(site, None)
    assert added.pins == PINS
    found = list_added(site, interpreter)
    names = {re.sub(r"lib/python3\.\d+/dist-packages/", "", path) for path in found}
    assert {"usr/local/web/__init__.py", "usr/local/util.py", "usr/local/bin/web"} <= names
    assert not {path for path in found if "pip" in path or path.endswith(".pyc")}
    script = (site.tree / "usr/local/bin/web").read_text()
    assert script.startswith("#!/usr/bin/python3\n")
    assert [part.purl for part in added.components] == ["pkg:pypi/util@1.5", "pkg:pypi/web@1.0"]
    assert (2, 2) in talk.progress


def test_what_is_cached_is_not_asked_for(
    site: Site, index: Index, interpreter: Path, talk: Talk
) -> None:
    """With the locked files in the cache no index is needed."""
    shutil.rmtree(index.path)
    for file, content in (WEB, UTIL):
        (site.scratch / file).write_bytes(content)
        cache.keep(site.cache, site.scratch / file)
    assert SOURCE.add(site, PINS).pins == PINS
    assert talk.steps == ["installing 2 Python packages"]
    assert any(path.endswith("/web/__init__.py") for path in list_added(site, interpreter))


def test_other_content_than_locked_is_refused(site: Site, index: Index) -> None:
    """A wheel of the right name and version, but with other bytes, is named with both digests."""
    forged = make_wheel("util", "1.5", {"util.py": "import evil\n"})
    index.publish(*forged)
    with pytest.raises(BuildError, match="differ from the lock") as caught:
        SOURCE.add(site, PINS)
    assert caught.value.issues == (
        f"util==1.5: {pin(forged).sha256}, locked is {pin(UTIL).sha256}",
    )


def test_vanished_version_is_named(site: Site) -> None:
    """A locked version that the index does not have is said in pip's words."""
    gone = msgspec.structs.replace(pin(UTIL), version="1.6")
    with pytest.raises(ProgramError, match=r"No matching distribution found for util==1\.6"):
        SOURCE.add(site, (gone, pin(WEB)))


def test_source_is_built_by_locked_tools_without_network(
    site: Site, again: Site, index: Index, interpreter: Path
) -> None:
    """Build tools are pinned and do not stay; a build sees neither network nor the caller."""
    index.publish(*make_wheel("tool", "1.0", {"tool.py": BACKEND}))
    index.publish(*make_source("made", "1.0"))
    source = Python(requirements=("made",), build=("tool",))
    site.environment["SECRET"] = "x"
    added = source.add(site, None)
    assert [(pin.name, pin.tool) for pin in added.pins] == [("made", False), ("tool", True)]
    assert [part.name for part in added.components] == ["made"]
    found = list_added(site, interpreter)
    assert not {path for path in found if "tool" in path}
    (module,) = (path for path in found if path.endswith("/made.py"))
    said: dict[str, list[str]] = {}
    exec((site.tree / module).read_text(), said)
    assert said["interfaces"] == ["lo"]
    assert "SECRET" not in said["environment"]
    source.add(again, added.pins)
    assert (again.tree / module).read_bytes() == (site.tree / module).read_bytes()


def test_without_build_tools_only_wheels_are_taken(site: Site, index: Index) -> None:
    """A source archive is not built by whatever tools the index has."""
    index.publish(*make_source("made", "1.0"))
    index.publish(*make_wheel("tool", "1.0", {"tool.py": BACKEND}))
    with pytest.raises(ProgramError, match="No matching distribution found for made"):
        Python(requirements=("made",)).add(site, None)


def test_tree_without_interpreter_is_refused(make_site: MakeSite) -> None:
    """A source that brings Python must stand before."""
    with pytest.raises(BuildError, match="no /usr/bin/python3") as caught:
        SOURCE.add(make_site(), None)
    assert "must stand before" in caught.value.hint


def test_configuration_is_only_where_packages_come_from() -> None:
    """The environment wins over files; options that would move or skip packages are not taken."""
    text = (
        "global.index-url='https://a/simple'\n"
        "global.find-links='/one\\n/two'\n"
        "global.target='/elsewhere'\n"
        "install.no-deps='true'\n"
        ":env:.index-url='https://b/simple'\n"
        "freeze.timeout='3'\n"
    )
    assert parse_configuration(text) == {"index_url": "https://b/simple", "find_links": "/one /two"}
