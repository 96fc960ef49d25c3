"""What keeps a tree from becoming a bundle is found, named, and reported all at once."""

import os
import shutil
import stat
from pathlib import Path

import pytest

from appbundle.build import checks, elf
from appbundle.build.checks import Expectations, find_issues
from appbundle.errors import BuildError, UnsupportedError
from tests.build.test_encode import WEB, make_tree

PROGRAM = Path("/usr/bin/env")
"""A dynamically linked program that every machine has."""


def find(tree: Path, **expected: object) -> list[str]:
    """Check a tree; the expectations may be given as keywords."""
    return list(find_issues(tree, Expectations(**expected)))  # type: ignore[arg-type]


def make_shell(tree: Path) -> Path:
    """Put something in the tree that scripts can name as their interpreter."""
    return make_tree(tree, {"bin/sh": b"\x7fELF, not really"})


def test_harmless_tree_has_no_issues(tmp_path: Path) -> None:
    """A program, data and a link inside: nothing to say."""
    tree = make_shell(make_tree(tmp_path / "tree", WEB))
    (tree / "tmp").mkdir()
    assert find(tree, programs=("/bin/web",), mount_points=("tmp",)) == []


def test_all_issues_are_reported_at_once(tmp_path: Path) -> None:
    """One build shows everything that is wrong, not the first thing."""
    tree = make_tree(tmp_path / "tree", {"bin/a": b"#!/usr/bin/perl\n", "b": "-> /nowhere"})
    (tree / "c").write_bytes(b"")
    (tree / "c").chmod(0o666)
    with pytest.raises(BuildError) as caught:
        checks.check_tree(tree, Expectations(programs=("/bin/none",), mount_points=("proc",)))
    assert caught.value.issues == (
        "/bin/none: the program to run is not in the tree",
        "b -> /nowhere: a dangling link",
        "bin/a: its interpreter /usr/bin/perl is not in the bundle",
        "c: writable by everybody (0666)",
        "proc: a mount point that is no directory of the tree",
    )


@pytest.mark.parametrize(
    ("mode", "problem"),
    [
        (0o664, "writable by its group (0664)"),
        (0o646, "writable by everybody (0646)"),
        (0o4755, "setuid or setgid (4755)"),
        (0o2755, "setuid or setgid (2755)"),
    ],
)
def test_dangerous_modes_are_named(tmp_path: Path, mode: int, problem: str) -> None:
    """Files that others may write, and setuid, are errors; they are not repaired in silence."""
    tree = make_tree(tmp_path / "tree", {"file": b"x"})
    (tree / "file").chmod(mode)
    assert find(tree) == [f"file: {problem}"]


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o444, 0o700, 0o1755])
def test_harmless_modes_are_left_to_normalising(tmp_path: Path, mode: int) -> None:
    """Private or sticky is odd, but safe: it becomes 0644 or 0755."""
    tree = make_tree(tmp_path / "tree", {"file": b"x"})
    (tree / "file").chmod(mode)
    assert find(tree) == []


def test_special_files_are_named(tmp_path: Path) -> None:
    """A bundle has files, directories and links, nothing else."""
    (tmp_path / "tree").mkdir()
    os.mkfifo(tmp_path / "tree/pipe")
    os.mknod(tmp_path / "tree/socket", stat.S_IFSOCK | 0o644)
    assert find(tmp_path / "tree") == ["pipe: a FIFO", "socket: a socket"]


def test_strange_names_are_shown_escaped(tmp_path: Path) -> None:
    """Names that are not UTF-8 or would command a terminal are refused and shown harmlessly."""
    (tmp_path / "tree").mkdir()
    for name in (b"bad\xff", b"esc\x1b[2J", "ltr\u202e".encode()):
        (Path(os.fsdecode(os.fsencode(tmp_path / "tree") + b"/" + name))).write_bytes(b"")
    issues = find(tmp_path / "tree")
    assert len(issues) == 3
    assert all("not UTF-8 or has control characters" in issue for issue in issues)
    assert "\x1b" not in "".join(issues)
    "".join(issues).encode()


@pytest.mark.parametrize(
    ("path", "target", "problem"),
    [
        ("lib/a", "/lib/two.py", ""),
        ("lib/a", "two.py", ""),
        ("lib/a", "../bin", ""),
        ("lib/a", "gone", "a dangling link"),
        ("lib/a", "a", "leads out of the bundle"),
        ("lib/a", "../../outside", "leads out of the bundle"),
        ("lib/a", "/proc/self/mounts", ""),
        ("lib/a", "/bin/web/under-a-file", "a dangling link"),
    ],
)
def test_links(tmp_path: Path, path: str, target: str, problem: str) -> None:
    """A link must lead to something in the bundle, or below a mount point."""
    tree = make_shell(make_tree(tmp_path / "tree", {**WEB, path: f"-> {target}"}))
    (tree / "proc").mkdir()
    found = find(tree, mount_points=("proc",))
    assert found == ([f"{path} -> {target}: {problem}"] if problem else [])


def test_declared_links_may_leave(tmp_path: Path) -> None:
    """An outward link is allowed where the recipe declares it; declaring none is an error."""
    tree = make_tree(tmp_path / "tree", {"zone": "-> /etc/localtime", "file": b"x"})
    assert find(tree, outward=("zone",)) == []
    issues = find(tree, outward=("file", "zone"))
    assert issues == ["file: declared as an outward link, but is none"]


def test_build_path_in_a_file_is_named(tmp_path: Path) -> None:
    """No content may name the directory in which it was made; byte code is made anew anyway."""
    tree = tmp_path / "tree"
    own = os.fsencode(tree)
    make_tree(
        tree,
        {
            "etc/web.conf": b"prefix = " + own + b"/etc\n",
            "lib/__pycache__/x.cpython-311.pyc": own,
            "harmless": b"/tree",
        },
    )
    assert find(tree) == [f"etc/web.conf: contains the path {tree}"]
    assert find(tree, foreign=("/tree",))[-1] == "harmless: contains the path /tree"


def test_shebangs(tmp_path: Path) -> None:
    """The interpreter of whatever can be executed is in the bundle."""
    tree = make_shell(tmp_path / "tree")
    make_tree(
        tree,
        {
            "usr/bin/env": b"\x7fELF, not really",
            "bin/good": b"#!/bin/sh -e\n",
            "bin/bad": b"#!/opt/python\n",
            "bin/relative": b"#!python\n",
            "bin/by-env": b"#!/usr/bin/env -S python3 -I\n",
            "bin/by-env-good": b"#!/usr/bin/env sh\n",
            "lib/script.py": b"#!/opt/python\n",
            "lib/module.py": b"#!/opt/python\n",
            "lib/helper": b"#!/opt/perl\n",
            "lib/example.py": b"#!/usr/bin/env python\n",
        },
    )
    for path in ("usr/bin/env", "lib/example.py", "lib/module.py", "lib/helper"):
        (tree / path).chmod(0o755)
    assert find(tree) == [
        "bin/bad: its interpreter /opt/python is not in the bundle",
        "bin/by-env: its interpreter python3 is not in the bundle",
        "bin/relative: the interpreter after #! is not an absolute path",
        "lib/helper: its interpreter /opt/perl is not in the bundle",
    ]


def test_pth_lines(tmp_path: Path) -> None:
    """A .pth file must not add directories that are not there."""
    text = b"# comment\nimport x\nrelative\n/lib\n/home/me/project\n"
    tree = make_tree(tmp_path / "tree", {"lib/x.pth": text})
    assert find(tree) == ["lib/x.pth: names /home/me/project, which is not in the bundle"]


def test_program_must_be_executable(tmp_path: Path) -> None:
    """What appb run starts can be started."""
    tree = make_tree(tmp_path / "tree", {"lib/web": b"x"})
    assert find(tree, programs=("/lib/web",)) == ["/lib/web: the program to run is not executable"]


def copy_program(tree: Path) -> elf.Dynamic:
    """Copy a real program into a tree, without what it needs."""
    (tree / "bin").mkdir(parents=True)
    shutil.copy(PROGRAM, tree / "bin/env")
    dynamic = elf.read_dynamic(PROGRAM)
    if dynamic is None or not dynamic.needed:
        pytest.skip("this machine's programs are not dynamically linked")
    return dynamic


def find_library(name: str, machine: str) -> Path:
    """Find one of this machine's libraries."""
    for directory in elf.default_directories(machine):
        if (Path(directory) / name).exists():
            return Path(directory) / name
    pytest.skip(f"{name} is not where it usually is")


def test_missing_libraries_are_named(tmp_path: Path) -> None:
    """A program without its libraries and interpreter: each of them is named."""
    tree = tmp_path / "tree"
    dynamic = copy_program(tree)
    assert find(tree) == sorted(
        f"bin/env: needs {name}, which is not in the bundle"
        for name in (dynamic.interpreter, *dynamic.needed)
    )


@pytest.mark.parametrize("place", ["default", "configured"])
def test_libraries_in_the_tree_are_found(tmp_path: Path, place: str) -> None:
    """The linker's usual directories and those of ld.so.conf.d are searched, as in a chroot."""
    tree = tmp_path / "tree"
    dynamic = copy_program(tree)
    todo = [find_library(name, dynamic.machine) for name in dynamic.needed]
    for library in todo:
        target = tree / ("opt/lib" if place == "configured" else str(library.parent).lstrip("/"))
        target.mkdir(parents=True, exist_ok=True)
        shutil.copy(library, target / library.name)
        inner = elf.read_dynamic(library)
        todo += [
            each
            for name in (inner.needed if inner else ())
            if (each := find_library(name, dynamic.machine)) not in todo
        ]
    interpreter = tree / dynamic.interpreter.lstrip("/")
    interpreter.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(dynamic.interpreter, interpreter)
    if place == "configured":
        name = Path(dynamic.interpreter).name
        shutil.copy(dynamic.interpreter, tree / "opt/lib" / name)
        make_tree(
            tree,
            {
                "etc/ld.so.conf": b"include ld.so.conf.d/*.conf\n",
                "etc/ld.so.conf.d/opt.conf": b"# ours\n/opt/lib\n",
            },
        )
    assert find(tree) == []


def test_base_provides_what_the_tree_lacks(tmp_path: Path) -> None:
    """A bundle on a declared base finds libraries and interpreters there."""
    tree = tmp_path / "tree"
    copy_program(tree)
    make_tree(tree, {"bin/script": b"#!/usr/bin/env sh\n", "bin/other": b"#!/opt/none\n"})
    issues = find(tree, base="/")
    assert issues == ["bin/other: its interpreter /opt/none is not in the bundle"]


def test_other_base_is_refused() -> None:
    """What cannot be checked here is not built here."""
    with pytest.raises(UnsupportedError):
        checks.find_base("plan9-4")
    assert checks.find_base("") == ""


@pytest.mark.parametrize(
    ("search", "said"),
    [
        ("/opt/builder/lib", "looks for libraries in /opt/builder/lib, not in the bundle"),
        ("lib", "looks for libraries in lib, wherever it runs"),
        ("/lib", ""),
        ("$ORIGIN/../gone", ""),
    ],
)
def test_foreign_library_paths_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, search: str, said: str
) -> None:
    """A program looks for its libraries in directories of the bundle."""
    tree = make_tree(tmp_path / "tree", {"bin/web": b"\x7fELF", "lib/x": b""})
    dynamic = elf.Dynamic(machine="EM_X86_64", search=(search,))
    monkeypatch.setattr(elf, "read_dynamic", lambda path: dynamic)
    assert find(tree) == ([f"bin/web: {said}"] if said else [])


def test_scripts_among_modules_are_not_programs(tmp_path: Path) -> None:
    """Modules of Python's own library begin with interpreters of long ago; nobody calls them."""
    tree = make_tree(tmp_path / "tree", {"lib/cgi.py": b"#! /usr/local/bin/python\n"})
    (tree / "lib/cgi.py").chmod(0o755)
    assert find(tree) == []
    (tree / "lib/cgi.py").rename(tree / "lib/cgi")
    assert find(tree) == ["lib/cgi: its interpreter /usr/local/bin/python is not in the bundle"]


def test_foreign_architecture_is_named(tmp_path: Path) -> None:
    """A program for another machine than the recipe's is no use."""
    tree = tmp_path / "tree"
    copy_program(tree)
    (issue,) = find(tree, architecture="pdp11")
    assert issue.startswith("bin/env: made for ")


def test_origin_is_where_the_file_is() -> None:
    """$ORIGIN and ${LIB} in a search path are expanded as ld.so does."""
    asked: list[str] = []

    def exists(path: str) -> bool:
        asked.append(path)
        return False

    dynamic = elf.Dynamic(
        machine="EM_X86_64",
        needed=("liba.so", "../b/libb.so"),
        search=("$ORIGIN/../x.libs", "/opt/${LIB}"),
    )
    gone = list(elf.missing("/usr/lib/x/y.so", dynamic, configured=["/conf"], exists=exists))
    assert gone == ["liba.so", "../b/libb.so"]
    assert asked[:3] == [
        "/usr/lib/x.libs/liba.so",
        "/opt/lib/x86_64-linux-gnu/liba.so",
        "/conf/liba.so",
    ]


def test_damaged_elf_is_no_crash(tmp_path: Path) -> None:
    """Something that begins like a program and is none is left alone."""
    whole = PROGRAM.read_bytes()
    for cut in (5, 64, 300, 2000):
        tree = make_tree(tmp_path / f"tree-{cut}", {"lib/x": whole[:cut]})
        find(tree)
