"""What a tree must keep to become a bundle; every finding is named, all at once.

Checked as the sources left it, before anything is normalised: what normalising would
repair in silence may be a sign of a broken input.
"""

import mmap
import os
import platform
import re
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from appbundle.build import elf
from appbundle.build.view import View, Where
from appbundle.bundle.manifest import Link
from appbundle.bundle.rules import link_leaves
from appbundle.bundle.text import is_harmless
from appbundle.errors import BuildError, UnsupportedError
from appbundle.names import escape

MAX_ISSUES = 1000
"""More are only counted."""

_WRITABLE = 0o022
_SET_ID = stat.S_ISUID | stat.S_ISGID
_EXECUTABLE = 0o111
_SHEBANG_SIZE = 256
_PROGRAM_PATH = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")
_PROGRAM_DIRECTORIES = frozenset({"bin", "sbin"})
_BYTE_CODE = re.compile(r"(?:^|/)__pycache__/[^/]*\.pyc$")
"""Made anew by normalising, whatever it contains."""
_MACHINES = {"EM_X86_64": "x86_64", "EM_AARCH64": "aarch64", "EM_RISCV": "riscv64"}

Progress = Callable[[int, int], None]


def _nobody(done: int, total: int) -> None:
    """Tell nobody how far it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Expectations:
    """What a recipe promises of its tree.

    Args:
        programs: What is started of it, absolute.
        files: What else must be there, relative: templates, and the files in whose place they go.
        mount_points: Directories that must be there, relative.
        outward: Links that may lead out of the bundle.
        architecture: As `uname -m` says, or `any`.
        base: Root of the base system that the bundle runs on, or empty for a self-contained one.
        foreign: Paths of the building machine that may stand in no file, beside the tree's own.
    """

    programs: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    mount_points: tuple[str, ...] = ()
    outward: tuple[str, ...] = ()
    architecture: str = "any"
    base: str = ""
    foreign: tuple[str, ...] = ()


@dataclass(slots=True)
class _Tree:
    """What a walk has met; paths are relative."""

    links: dict[str, str] = field(default_factory=dict)
    files: list[tuple[str, int]] = field(default_factory=list)
    issues: list[str] = field(default_factory=list)


def check_tree(tree: Path, expected: Expectations, *, progress: Progress = _nobody) -> None:
    """Check everything about a tree.

    Raises:
        BuildError: With every finding.
    """
    issues = find_issues(tree, expected, progress=progress)
    if not issues:
        return
    more = len(issues) - MAX_ISSUES
    shown = (*issues[:MAX_ISSUES], f"… and {more} more") if more > 0 else issues
    count = "1 entry of the tree breaks" if len(issues) == 1 else f"{len(issues)} findings break"
    raise BuildError(
        f"{count} the rules for bundles",
        issues=shown,
        kept="no bundle was written",
        hint="leave files out with the recipe's exclude, or add what they need to its sources",
    )


def find_base(name: str) -> str:
    """Find the root of the base system that a recipe declares: this machine, if it is of that kind.

    Args:
        name: As `debian-12`; empty for a self-contained bundle.

    Returns:
        The root directory, or nothing for a self-contained bundle.

    Raises:
        UnsupportedError: This machine has another system, so nothing could be checked.
    """
    if not name:
        return ""
    about = platform.freedesktop_os_release()
    here = f"{about.get('ID', 'linux')}-{about.get('VERSION_ID', '')}".rstrip("-")
    if here != name:
        raise UnsupportedError(
            f"a bundle for {escape(name)} can be built only there, and this is {escape(here)}",
            kept="no bundle was written",
        )
    return "/"


def find_issues(
    tree: Path, expected: Expectations, *, progress: Progress = _nobody
) -> tuple[str, ...]:
    """List everything that keeps a tree from becoming a bundle, sorted by path."""
    root = os.fspath(tree)
    found = _Tree()
    _walk(root, "", found)
    view = View(root, frozenset(expected.mount_points), expected.base)
    issues = found.issues
    issues += _check_links(found.links, view, expected)
    issues += _check_promises(view, expected)
    contents = _Contents(view, expected, root)
    for done, (path, mode) in enumerate(found.files, 1):
        issues += contents.check(path, mode)
        progress(done, len(found.files))
    return tuple(sorted(set(issues)))


# Kinds, modes, names ------------------------------------------------------------------------------


def _walk(here: str, prefix: str, found: _Tree) -> None:
    with os.scandir(here) as entries:
        for entry in sorted(entries, key=lambda each: each.name):
            path = prefix + entry.name
            mode = entry.stat(follow_symlinks=False).st_mode
            # What is not UTF-8 arrives as lone surrogates, which are not harmless either.
            if not is_harmless(entry.name):
                problem = "the name is not UTF-8 or has control characters"
                found.issues.append(f"{_show(path)}: {problem}")
            if stat.S_ISLNK(mode):
                found.links[path] = os.readlink(entry.path)
            elif stat.S_ISDIR(mode):
                _walk(entry.path, path + "/", found)
            elif stat.S_ISREG(mode):
                found.files.append((path, mode))
                found.issues += _check_mode(path, mode)
            else:
                found.issues.append(f"{_show(path)}: {_kind(mode)}")


def _show(path: str) -> str:
    """Make a name printable, whatever bytes it has."""
    return escape(path) if path.isprintable() else escape(ascii(path)[1:-1])


def _check_mode(path: str, mode: int) -> Iterator[str]:
    if mode & _WRITABLE:
        who = "everybody" if mode & stat.S_IWOTH else "its group"
        yield f"{_show(path)}: writable by {who} ({stat.S_IMODE(mode):04o})"
    if mode & _SET_ID:
        yield f"{_show(path)}: setuid or setgid ({stat.S_IMODE(mode):04o})"


def _kind(mode: int) -> str:
    if stat.S_ISBLK(mode) or stat.S_ISCHR(mode):
        return "a device node"
    return "a FIFO" if stat.S_ISFIFO(mode) else "a socket"


# Links and promises -------------------------------------------------------------------------------


def relative_target(path: str, target: str) -> str:
    """Say a link's absolute target relative to the link, as seen from the tree's root."""
    if not target.startswith("/"):
        return target
    up = "../" * path.count("/")
    return os.path.normpath(up + target.strip("/")) if target.strip("/") else up or "."


def _check_links(links: dict[str, str], view: View, expected: Expectations) -> Iterator[str]:
    outward = set(expected.outward)
    for path in sorted(outward - links.keys()):
        yield f"{_show(path)}: declared as an outward link, but is none"
    # Normalising makes them relative, which only a self-contained root allows.
    targets = (
        links
        if expected.base
        else {path: relative_target(path, target) for path, target in links.items()}
    )
    for path, target in links.items():
        if path in outward:
            continue
        shown = f"{_show(path)} -> {_show(target)}"
        if link_leaves(Link(path, targets[path]), targets):
            yield f"{shown}: leads out of the bundle"
        elif view.find(target, start=os.path.dirname(path)) is Where.NOWHERE:
            yield f"{shown}: a dangling link"


def _check_promises(view: View, expected: Expectations) -> Iterator[str]:
    for point in expected.mount_points:
        if not os.path.isdir(f"{view.tree}/{point}") or os.path.islink(f"{view.tree}/{point}"):
            yield f"{_show(point)}: a mount point that is no directory of the tree"
    for program in dict.fromkeys(expected.programs):
        if not view.is_file(program):
            yield f"{_show(program)}: the program to run is not in the tree"
        elif not view.is_file(program, executable=True):
            yield f"{_show(program)}: the program to run is not executable"
    for path in dict.fromkeys(expected.files):
        if not view.is_file(path):
            yield f"{_show(path)}: a template names it, but it is no file of the tree"


# Contents -----------------------------------------------------------------------------------------


class _Contents:
    """Looks into files."""

    def __init__(self, view: View, expected: Expectations, root: str) -> None:
        self._view = view
        self._architecture = expected.architecture
        self._foreign = tuple(map(os.fsencode, dict.fromkeys((root, *expected.foreign))))
        self._configured = elf.configured_directories(view.read, view.glob)
        self._exists: dict[str, bool] = {}

    def check(self, path: str, mode: int) -> Iterator[str]:
        """Give the findings in one file."""
        full = f"{self._view.tree}/{path}"
        with open(full, "rb") as file:
            head = file.read(_SHEBANG_SIZE)
            if head and not _BYTE_CODE.search(path):
                yield from self._find_foreign(path, file.fileno())
        if head.startswith(elf.MAGIC):
            yield from self._check_elf(path, full)
        elif head.startswith(b"#!") and mode & _EXECUTABLE:
            yield from self._check_shebang(path, head)
        if path.endswith(".pth"):
            yield from self._check_pth(path)

    def _find_foreign(self, path: str, fd: int) -> Iterator[str]:
        with mmap.mmap(fd, 0, access=mmap.ACCESS_READ) as content:
            for needle in self._foreign:
                if content.find(needle) >= 0:
                    yield f"{_show(path)}: contains the path {os.fsdecode(needle)}"
                    return

    def _check_elf(self, path: str, full: str) -> Iterator[str]:
        dynamic = elf.read_dynamic(full)
        if dynamic is None:
            return
        machine = _MACHINES.get(dynamic.machine, dynamic.machine)
        if self._architecture not in ("any", machine):
            yield f"{_show(path)}: made for {machine}"
            return
        for name in elf.missing(f"/{path}", dynamic, configured=self._configured, exists=self._has):
            yield f"{_show(path)}: needs {_show(name)}, which is not in the bundle"
        for directory in dynamic.search:
            if not directory.startswith(("/", "$")):
                yield f"{_show(path)}: looks for libraries in {_show(directory)}, wherever it runs"
            elif directory.startswith("/") and self._view.find(directory) is Where.NOWHERE:
                yield f"{_show(path)}: looks for libraries in {_show(directory)}, not in the bundle"

    def _has(self, path: str) -> bool:
        if path not in self._exists:
            self._exists[path] = self._view.is_file(path)
        return self._exists[path]

    def _check_shebang(self, path: str, head: bytes) -> Iterator[str]:
        words = head[2:].split(b"\n")[0].decode("utf-8", "replace").split()
        if not words or not words[0].startswith("/"):
            yield f"{_show(path)}: the interpreter after #! is not an absolute path"
        elif not self._view.is_file(words[0], executable=True):
            # Python's own library has modules that begin so; they are imported, never called.
            if _is_program(path) or not path.endswith(".py"):
                yield f"{_show(path)}: its interpreter {_show(words[0])} is not in the bundle"
        elif os.path.basename(words[0]) == "env" and _is_program(path):
            # Libraries carry many scripts for `env python` that nobody calls as programs.
            yield from self._check_env(path, words[1:])

    def _check_env(self, path: str, words: list[str]) -> Iterator[str]:
        name = next((word for word in words if not word.startswith("-") and "=" not in word), "")
        if not any(self._view.is_file(f"{each}/{name}", executable=True) for each in _PROGRAM_PATH):
            yield f"{_show(path)}: its interpreter {_show(name)} is not in the bundle"

    def _check_pth(self, path: str) -> Iterator[str]:
        for line in self._view.read(f"/{path}").splitlines():
            if line.startswith("/") and self._view.find(line.rstrip()) is Where.NOWHERE:
                yield f"{_show(path)}: names {_show(line)}, which is not in the bundle"


def _is_program(path: str) -> bool:
    return os.path.basename(os.path.dirname(path)) in _PROGRAM_DIRECTORIES
