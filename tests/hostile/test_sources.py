"""Where a bundle comes from does not matter: rows 10, 25, 26 and 66.

What is authenticated is what was opened, and what is written is what was digested, whatever
somebody else does to the file meanwhile.
"""

import contextlib
import os
import socket
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from appbundle.bundle.statement import Signed, encode_signed
from appbundle.errors import AppbError, CorruptError
from appbundle.flows import install
from appbundle.layout import BUNDLE_DIR, MANIFEST_FRAME, SIGNED
from appbundle.trust import allowed_signers, sshsig
from appbundle.trust.keys import PrivateKey
from tests.bundles import Draft, Entry, File, Node, complete, draft, make_tree, picture

GOOD: dict[str, Entry] = {"bin/web": File("good", executable=True), "lib/one": File("one" * 99)}
EVIL: dict[str, Entry] = {"bin/web": File("evil", executable=True), "lib/one": File("two" * 99)}


def as_file(path: Path, made: Draft, tree: dict[str, Entry], *keys: PrivateKey) -> Path:
    """Write a bundle file."""
    return made.write(path.with_suffix(".bundle"), *keys)


def as_directory(path: Path, made: Draft, tree: dict[str, Entry], *keys: PrivateKey) -> Path:
    """Write a bundle directory."""
    statement, frame = made.papers()
    make_tree(path, tree)
    (path / BUNDLE_DIR).mkdir()
    (path / BUNDLE_DIR / MANIFEST_FRAME).write_bytes(frame)
    signed = Signed(statement, tuple(sshsig.sign_blob(statement, key) for key in keys))
    (path / BUNDLE_DIR / SIGNED).write_bytes(encode_signed(signed))
    return path


Form = Callable[..., Path]
FORMS = pytest.mark.parametrize("form", [as_file, as_directory])


@dataclass
class Meanwhile:
    """A report that does something when a step begins or is under way."""

    at: str
    act: Callable[[], object]

    def step(self, text: str) -> None:
        """Begin a step."""
        if text.startswith(self.at):
            self.act()

    def advance(self, done: int, total: int) -> None:
        """Be under way."""
        self.step("advance")

    def saves(self, size_bytes: int) -> None:
        """Need not fetch something."""

    def note(self, text: str) -> None:
        """Say something."""


def install_meanwhile(node: Node, path: Path, at: str, act: Callable[[], object]) -> None:
    """Install a bundle while somebody does something at a step."""
    context = replace(node.context, report=Meanwhile(at, act))
    install.install(context, [str(path)])


@FORMS
def test_bundle_that_is_exchanged_is_not_opened_again(
    node: Node, form: Form, tmp_path: Path
) -> None:
    """Row 25: after the check the name may stand for something else; what was opened counts."""
    path = form(tmp_path / "good", draft(GOOD), GOOD, node.key)
    other = form(tmp_path / "evil", draft(EVIL), EVIL, node.key)

    def exchange() -> None:
        path.rename(tmp_path / "away")
        other.rename(path)

    install_meanwhile(node, path, "unpacking", exchange)
    assert node.tree() == complete(GOOD)


@FORMS
def test_bundle_that_is_overwritten_is_refused(node: Node, form: Form, tmp_path: Path) -> None:
    """Row 25: bytes that change in place after the check are not the signed ones any more."""
    path = form(tmp_path / "good", draft(GOOD), GOOD, node.key)
    other = form(tmp_path / "evil", draft(EVIL), EVIL, node.key)

    def overwrite() -> None:
        for name in (".", *EVIL) if path.is_dir() else (".",):
            if not (path / name).is_dir():
                (path / name).write_bytes((other / name).read_bytes())

    with pytest.raises(CorruptError):
        install_meanwhile(node, path, "unpacking", overwrite)
    assert not (node.layout.apps / "web").exists()
    assert list(node.layout.stage.iterdir()) == []


@contextmanager
def standard_input(path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Read standard input from a file."""
    with path.open() as file, monkeypatch.context() as patched:
        patched.setattr("sys.stdin", file)
        yield


@pytest.mark.parametrize("source", ["file", "directory", "standard input"])
@pytest.mark.parametrize(
    ("signed_by", "trusted_for", "kind"),
    [
        ((), "*", "unsigned"),
        (("stranger",), "*", "unknown-key"),
        (("node",), "other", "key-not-allowed"),
    ],
)
def test_every_source_is_checked_alike(
    node: Node,
    stranger: PrivateKey,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    source: str,
    signed_by: tuple[str, ...],
    trusted_for: str,
    kind: str,
) -> None:
    """Row 66: nothing is trusted for being local, unpacked already, or piped in by root."""
    node.trust(allowed_signers.format_entry(node.key.public, names=(trusted_for,)))
    keys = [node.key if name == "node" else stranger for name in signed_by]
    form = as_directory if source == "directory" else as_file
    path = form(tmp_path / "made", draft(GOOD), GOOD, *keys)
    with (
        standard_input(path, monkeypatch)
        if source == "standard input"
        else contextlib.nullcontext()
    ):
        with pytest.raises(AppbError) as caught:
            install.install(node.context, ["-" if source == "standard input" else str(path)])
    assert (caught.value.kind, caught.value.exit_code) == (kind, 20)
    assert not (node.layout.apps / "web").exists()


def fifo(path: Path) -> None:
    """A pipe that nobody writes to."""
    os.mkfifo(path)


def fifo_with_silent_writer(path: Path) -> None:
    """A pipe whose writer never says anything; it is left open for as long as the tests run."""
    os.mkfifo(path)
    os.open(path, os.O_RDWR)


def link_to_device(path: Path) -> None:
    """Something that never ends."""
    path.symlink_to("/dev/zero")


def socket_file(path: Path) -> None:
    """Something that cannot be opened."""
    with contextlib.chdir(path.parent), socket.socket(socket.AF_UNIX) as listening:
        listening.bind(path.name)


REPLACEMENTS = [Path.mkdir, fifo, fifo_with_silent_writer, link_to_device, socket_file]


@pytest.mark.parametrize("replacement", REPLACEMENTS)
@pytest.mark.parametrize(
    "place", ["bin/web", f"{BUNDLE_DIR}/{SIGNED}", f"{BUNDLE_DIR}/{MANIFEST_FRAME}"]
)
def test_what_is_no_file_is_not_waited_for(
    node: Node, tmp_path: Path, place: str, replacement: Callable[[Path], None]
) -> None:
    """Row 10: a pipe, device or directory in a file's place is corruption, at once."""
    path = as_directory(tmp_path / "made", draft(GOOD), GOOD, node.key)
    (path / place).unlink()
    replacement(path / place)
    with pytest.raises(CorruptError):
        node.install(path)
    assert not (node.layout.apps / "web").exists()


def test_stage_is_private_and_below_apps(node: Node, tmp_path: Path) -> None:
    """Row 26: while files are written nobody else can reach them, and no cleaner of /tmp does."""
    path = as_file(tmp_path / "good", draft(GOOD), GOOD, node.key)
    seen: list[tuple[int, int]] = []

    def look() -> None:
        (stage,) = node.layout.stage.iterdir()
        assert (stage / "tree-0/.bundle").is_dir()
        modes = [stat.S_IMODE(each.stat().st_mode) for each in (stage.parent, stage)]
        seen.append((modes[0], modes[1]))

    outside = picture(node.outside)
    install_meanwhile(node, path, "advance", look)
    assert set(seen) == {(0o700, 0o700)}
    assert picture(node.outside) == outside
    assert node.layout.stage.is_relative_to(node.layout.apps)
