"""`appb build`: a recipe becomes a bundle, whole or not at all."""

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest

from appbundle.build import encode, sbom, sources
from appbundle.build.sources.base import Added, Pin, Site
from appbundle.bundle.statement import Signed, parse_statement
from appbundle.cli.main import run_command
from appbundle.errors import AppbError, BuildError, ConflictError, NotFoundError, UsageError
from appbundle.flows import build as flow
from appbundle.flows import install
from appbundle.flows.context import Context
from appbundle.layout import BUNDLE_DIR, Layout
from appbundle.runtime import plan
from appbundle.store.source import open_source
from appbundle.trust import allowed_signers, keys, sshsig
from tests.build.conftest import Talk
from tests.build.test_encode import make_tree, read_back

RECIPE = """
name = "web"
summary = "Serves nothing"
licence = "Apache-2.0"

[run]
argv = ["/bin/web"]

[[sources]]
kind = "files"
directory = "files"

[releases."1.0"]
release = 1

[releases."2.0"]
release = 2
"""
FILES: Mapping[str, bytes | str] = {
    "bin/web": b"\x7fELF, not really",
    "share/text": b"hello\n",
    "current": "-> share",
}
CREATED = 1_700_000_000

Build = Callable[..., flow.Built]


def make_recipe(directory: Path) -> Path:
    """Write a recipe of plain files with two releases."""
    make_tree(directory / "files", FILES)
    (directory / "recipe.toml").write_text(RECIPE)
    return directory


@pytest.fixture
def context(tmp_path: Path) -> Context:
    """A node that has nothing, at a fixed time."""
    (tmp_path / "node").mkdir()
    return Context(layout=Layout(tmp_path / "node"), now=CREATED)


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """The example's recipe."""
    return make_recipe(tmp_path / "recipe")


@pytest.fixture
def build(context: Context, recipe: Path, tmp_path: Path) -> Build:
    """Build the example; options as keywords."""

    def run(
        *, signer: sshsig.Signer | None = None, directory: Path = recipe, **given: Any
    ) -> flow.Built:
        version = given.setdefault("release", "1.0")
        if "directory_out" in given:
            given["directory"] = given.pop("directory_out")
        else:
            given.setdefault("output", tmp_path / f"web-{version}.bundle")
        options = {"cache": tmp_path / "cache", "created": CREATED, "level": 1, **given}
        return flow.build(context, directory, flow.Options(**options), signer=signer)

    return run


def list_left_over(tmp_path: Path) -> list[str]:
    """What builds have left behind beside what they should."""
    work = tmp_path / "cache/work"
    hidden = [each.name for each in tmp_path.iterdir() if each.name.startswith(".")]
    return hidden + (os.listdir(work) if work.exists() else [])


def test_recipe_becomes_a_bundle(build: Build, tmp_path: Path) -> None:
    """The bundle holds what the recipe says and the sources bring."""
    built = build()
    assert built.file is not None
    manifest, _ = read_back(built.file)
    assert (manifest.name, manifest.version, manifest.release) == ("web", "1.0", 1)
    assert (manifest.summary, manifest.licence) == ("Serves nothing", "Apache-2.0")
    assert manifest.created == CREATED
    assert manifest.run is not None
    assert {"bin/web", "share/text", sbom.PATH} <= {file.path for file in manifest.files}
    assert built.digest == encode.digest_of(manifest)
    assert (built.size_bytes, built.files) == (built.file.stat().st_size, len(manifest.files))
    assert not built.signed
    assert list_left_over(tmp_path) == []


def test_bundle_can_be_run_in_a_sandbox(build: Build) -> None:
    """Every directory on which the sandbox mounts something is there."""
    built = build()
    assert built.file is not None
    directories = read_back(built.file)[0].directories
    assert set(plan.mount_points("web", declared=True)) <= set(directories)


def test_twice_the_same_bytes(build: Build, tmp_path: Path) -> None:
    """Neither the recipe's place nor the cache's nor the file's shows in a bundle."""
    first, second = tmp_path / "one.bundle", tmp_path / "two.bundle"
    build(output=first)
    elsewhere = make_recipe(tmp_path / "some/where/else")
    os.utime(elsewhere / "files/share/text", (1, 1))
    build(directory=elsewhere, output=second, cache=tmp_path / "other-cache")
    assert second.read_bytes() == first.read_bytes()


def test_signed_bundle_installs(build: Build, context: Context, tmp_path: Path) -> None:
    """With a key the bundle is signed; a node that trusts the key installs it, file for file."""
    made = keys.generate()
    built = build(signer=keys.load_private_key(made.private))
    assert built.signed
    trusted = context.layout.allowed_signers
    trusted.parent.mkdir(parents=True)
    entry = allowed_signers.format_entry(made.public, names=["web"])
    trusted.write_text(allowed_signers.add("", entry))
    install.install(context, [str(built.file)])
    installed = tmp_path / "node/apps/web/1.0"
    assert (installed / "share/text").read_bytes() == b"hello\n"
    assert os.readlink(installed / "current") == "share"
    assert os.access(installed / "bin/web", os.X_OK)


def test_previous_bundle_orders_the_payload(build: Build, recipe: Path) -> None:
    """Contents of the release before keep their date; what changed is the tail."""
    first = build()
    (recipe / "files/share/text").write_bytes(b"changed\n")
    second = build(release="2.0", previous=str(first.file))
    assert second.file is not None
    manifest, _ = read_back(second.file)
    assert manifest.previous == first.digest
    since = {file.path: file.since for file in manifest.files}
    assert (since["bin/web"], since["share/text"]) == (1, 2)


def test_previous_must_be_earlier(build: Build) -> None:
    """A bundle of the same or a later release cannot be the one before."""
    later = build(release="2.0")
    for release in ("1.0", "2.0"):
        with pytest.raises(BuildError, match="not before release"):
            build(release=release, previous=str(later.file))


def test_previous_must_be_of_the_same_app(build: Build, tmp_path: Path) -> None:
    """A bundle of another app has nothing to say about this one."""
    other = make_recipe(tmp_path / "other")
    (other / "recipe.toml").write_text(RECIPE.replace('"web"', '"shop"', 1))
    shop = build(directory=other, output=tmp_path / "shop.bundle")
    with pytest.raises(BuildError, match="bundle of shop, not of web"):
        build(release="2.0", previous=str(shop.file))


def test_damaged_previous_is_refused(build: Build, tmp_path: Path) -> None:
    """A bundle that contradicts itself does not order anything."""
    first = build()
    assert first.file is not None
    content = bytearray(first.file.read_bytes())
    content[2048 + 9 + 100] ^= 1
    (tmp_path / "damaged").write_bytes(content)
    with pytest.raises(AppbError, match="manifest frame"):
        build(release="2.0", previous=str(tmp_path / "damaged"))


def test_broken_tree_keeps_the_old_bundle(build: Build, recipe: Path, tmp_path: Path) -> None:
    """A build that fails leaves the file of the build before, and nothing of its own."""
    built = build()
    assert built.file is not None
    before = built.file.read_bytes()
    (recipe / "files/dangling").symlink_to("nowhere")
    (recipe / "files/bin/script").write_bytes(b"#!/bin/none\n")
    (recipe / "files/bin/script").chmod(0o755)
    with pytest.raises(BuildError) as caught:
        build()
    assert caught.value.issues == (
        "bin/script: its interpreter /bin/none is not in the bundle",
        "dangling -> nowhere: a dangling link",
    )
    assert built.file.read_bytes() == before
    assert list_left_over(tmp_path) == []


def test_missing_library_and_writable_file_fail_the_build(build: Build, recipe: Path) -> None:
    """Programs without their libraries, and what everybody may write, are named together."""
    text = RECIPE.replace("[run]", 'exclude = ["**/libc.so.*"]\n[run]')
    host = '[[sources]]\nkind = "host"\nprograms = ["/bin/sleep"]\n'
    (recipe / "recipe.toml").write_text(text.replace("[releases", host + "[releases", 1))
    (recipe / "files/share/text").chmod(0o646)
    with pytest.raises(BuildError) as caught:
        build()
    issues = caught.value.issues
    assert "share/text: writable by everybody (0646)" in issues
    assert "bin/sleep: needs libc.so.6, which is not in the bundle" in issues


class Moving(msgspec.Struct, frozen=True, kw_only=True):
    """A source whose locked input is gone: the newer one has another file."""

    def add(self, site: Site, pins: tuple[Pin, ...] | None) -> Added:
        """Add a file, or two."""
        (site.tree / "old").touch()
        if pins is not None:
            (site.tree / "new").touch()
        return Added(moved_on=pins is not None)


def test_newer_inputs_may_have_other_files(
    build: Build, recipe: Path, monkeypatch: pytest.MonkeyPatch, context: Context
) -> None:
    """Where a recipe accepts newer inputs than locked, the footprint only tells what differs."""
    talk = Talk()
    monkeypatch.setitem(sources.KINDS, "moving", Moving)
    monkeypatch.setattr(context.report, "note", talk.note)
    source = '[[sources]]\nkind = "moving"\n[releases'
    (recipe / "recipe.toml").write_text(RECIPE.replace("[releases", source, 1))
    build()
    before = (recipe / "1.0.footprint").read_bytes()
    talk.notes.clear()
    build()
    assert talk.notes == ["1.0.footprint: + f new"]
    assert (recipe / "1.0.footprint").read_bytes() == before


def test_footprint_difference_fails_the_build(build: Build, recipe: Path) -> None:
    """An entry that came or went fails the build with the list, until it is accepted."""
    build()
    (recipe / "files/share/more").write_bytes(b"")
    with pytest.raises(BuildError) as caught:
        build()
    assert caught.value.issues == ("+ f share/more",)
    build(update_footprint=True)
    build()


def test_directory_is_what_the_file_would_be(build: Build, tmp_path: Path) -> None:
    """--dir gives the same bundle as a directory; no file is made beside it."""
    file = build()
    made = build(directory_out=tmp_path / "web")
    assert (made.digest, made.file, made.directory) == (file.digest, None, tmp_path / "web")
    with open_source(str(tmp_path / "web")) as source:
        assert parse_statement(source.signed().statement).manifest_sha256 == file.digest
    assert (tmp_path / "web/share/text").read_bytes() == b"hello\n"
    assert (tmp_path / "web" / BUNDLE_DIR).is_dir()
    with pytest.raises(ConflictError):
        build(directory_out=tmp_path / "web")


def test_file_and_directory_together(build: Build, tmp_path: Path) -> None:
    """With -o and --dir both are made, of one bundle."""
    made = build(output=tmp_path / "web.bundle", directory_out=tmp_path / "web")
    assert made.file is not None
    manifest, _ = read_back(made.file)
    assert made.digest == encode.digest_of(manifest)
    assert encode.scan_tree(tmp_path / "web/share").files[0].size == 6


@pytest.mark.parametrize("umask", [0o002, 0o077])
def test_umask_does_not_show(build: Build, tmp_path: Path, umask: int) -> None:
    """Whoever builds, entries have the modes of bundles, in a bundle directory too."""
    expected = build().digest
    before = os.umask(umask)
    try:
        made = build(directory_out=tmp_path / "web")
    finally:
        os.umask(before)
    assert made.digest == expected
    modes = {oct(each.lstat().st_mode) for each in (tmp_path / "web").rglob("*")}
    assert modes == {"0o40755", "0o100644", "0o100755", "0o120777"}


def test_targets_are_checked_before_the_work(
    build: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A target that cannot be written is found out at once, not after minutes."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "web-1.0.bundle").mkdir()
    with pytest.raises(UsageError, match=r"web-1\.0\.bundle is a directory"):
        build(output=None)
    with pytest.raises(NotFoundError, match="no directory"):
        build(output=tmp_path / "none/web.bundle")
    with pytest.raises(UsageError, match="is a directory"):
        build(output=tmp_path)
    assert not (tmp_path / "cache").exists()


def test_interrupted_build_leaves_nothing(
    build: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C while compressing leaves neither a spool nor a tree behind."""

    def interrupt(*_: object, **__: object) -> Signed:
        raise KeyboardInterrupt

    monkeypatch.setattr(encode, "write_frames", interrupt)
    with pytest.raises(KeyboardInterrupt):
        build()
    assert list_left_over(tmp_path) == []
    assert not (tmp_path / "web-1.0.bundle").exists()


def test_command_prints_one_document(
    recipe: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """appb build --json says what was made; the file is NAME-VERSION.bundle here by default."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("APPB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("SOURCE_DATE_EPOCH", str(CREATED))
    assert run_command(["--json", "build", str(recipe), "--level", "1"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["name"], document["version"], document["signed"]) == ("web", "2.0", False)
    assert document["file"] == "web-2.0.bundle"
    assert document["size_bytes"] == (tmp_path / "web-2.0.bundle").stat().st_size
    assert read_back(tmp_path / "web-2.0.bundle")[0].created == CREATED


def test_command_lists_all_issues(
    recipe: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Every finding is a line of the error, in words and in JSON."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("APPB_CACHE", str(tmp_path / "cache"))
    (recipe / "files/dangling").symlink_to("nowhere")
    assert run_command(["build", str(recipe)]) == 1
    assert "  dangling -> nowhere: a dangling link\n" in capsys.readouterr().err
    assert run_command(["--json", "build", str(recipe)]) == 1
    error = json.loads(capsys.readouterr().out)["error"]
    assert (error["kind"], error["issues"]) == ("build", ["dangling -> nowhere: a dangling link"])


def test_malformed_epoch_is_refused(recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A SOURCE_DATE_EPOCH that is no time is not taken for now."""
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "yesterday")
    assert run_command(["build", str(recipe)]) == 2
