"""Where, when and by whom a tree was made does not show in it."""

import marshal
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from appbundle.build import bytecode, normalise
from appbundle.build.encode import scan_tree
from appbundle.errors import BuildError
from tests.build.test_encode import make_tree

MODULE = b"def greet(name: str = 'world') -> str:\n    return f'hello {name}'\n"


@pytest.mark.parametrize(
    ("before", "after"),
    [(0o600, 0o644), (0o444, 0o644), (0o700, 0o755), (0o550, 0o755), (0o1644, 0o644)],
)
def test_modes_become_two(tmp_path: Path, before: int, after: int) -> None:
    """A file is 0755 if anyone may execute it, else 0644; a directory is 0755."""
    tree = make_tree(tmp_path / "tree", {"private/file": b"x"})
    (tree / "private/file").chmod(before)
    (tree / "private").chmod(0o2770)
    normalise.normalise(tree, self_contained=True)
    assert (tree / "private/file").stat().st_mode & 0o7777 == after
    assert (tree / "private").stat().st_mode & 0o7777 == 0o755


@pytest.mark.parametrize(
    ("path", "target", "relative"),
    [
        ("usr/bin/vi", "/etc/alternatives/vi", "../../etc/alternatives/vi"),
        ("top", "/usr/lib", "usr/lib"),
        ("usr/root", "/", "../"),
        ("usr/same", "../bin", "../bin"),
    ],
)
def test_absolute_links_become_relative(
    tmp_path: Path, path: str, target: str, relative: str
) -> None:
    """In a root of its own an absolute link means a file of the tree."""
    tree = make_tree(tmp_path / "tree", {path: f"-> {target}"})
    normalise.normalise(tree, self_contained=False)
    assert os.readlink(tree / path) == target
    normalise.normalise(tree, self_contained=True)
    assert os.readlink(tree / path) == relative


def test_hard_links_are_broken(tmp_path: Path) -> None:
    """Two names become two files, and a name outside the tree is left as it was."""
    tree = make_tree(tmp_path / "tree", {"a": b"x"})
    os.link(tree / "a", tree / "b")
    os.link(tree / "a", tmp_path / "outside")
    (tree / "a").chmod(0o600)
    normalise.normalise(tree, self_contained=True)
    assert [(tree / name).stat().st_nlink for name in "ab"] == [1, 1]
    assert (tree / "b").read_bytes() == b"x"
    assert (tmp_path / "outside").stat().st_mode & 0o777 == 0o600
    assert sorted(os.listdir(tree)) == ["a", "b"]


def test_old_byte_code_goes(tmp_path: Path) -> None:
    """Byte code of whoever installed a package depends on paths and times: it goes."""
    tree = make_tree(tmp_path / "tree", {"lib/__pycache__/x.pyc": b"x", "lib/x.py": MODULE})
    normalise.normalise(tree, self_contained=True)
    assert os.listdir(tree / "lib") == ["x.py"]


def test_tree_without_interpreter_gets_no_byte_code(tmp_path: Path) -> None:
    """Nobody could say which version's byte code it should be."""
    tree = make_tree(tmp_path / "tree", {"lib/x.py": MODULE})
    assert normalise.compile_bytecode(tree) == 0
    assert os.listdir(tree / "lib") == ["x.py"]


def compile_here(tree: Path, name: str, paths: list[str]) -> None:
    """Run the compiling script as a build does, by this interpreter and without a chroot."""
    listed = tree.parent / name
    listed.write_text("".join(f"{path}\n" for path in paths))
    subprocess.run(
        [sys.executable, "-s", "-S", "-B", bytecode.__file__, str(tree), str(listed)],
        env={"PYTHONHASHSEED": "0"},
        check=True,
        capture_output=True,
        timeout=60,
    )


def read_byte_code(tree: Path, directory: str = "lib") -> dict[str, bytes]:
    """Give the byte code files below a directory."""
    return {file.name: file.read_bytes() for file in (tree / directory / "__pycache__").iterdir()}


def test_byte_code_is_believed_unseen_and_names_the_bundle_path(tmp_path: Path) -> None:
    """The flag of unchecked hashes is set, and tracebacks name the path inside the bundle."""
    tree = make_tree(tmp_path / "tree", {"lib/x.py": MODULE})
    compile_here(tree, "list", ["/lib/x.py"])
    (content,) = read_byte_code(tree).values()
    assert content[4:8] == (0b01).to_bytes(4, "little")
    assert marshal.loads(content[16:]).co_filename == "/lib/x.py"


def test_byte_code_does_not_depend_on_the_company(tmp_path: Path) -> None:
    """A file gives the same bytes alone and after others that use the same names."""
    other = b"greet = name = 'hello'\nclass world:\n    name = greet\n" * 3
    alone = make_tree(tmp_path / "a/tree", {"lib/x.py": MODULE})
    compile_here(alone, "list", ["/lib/x.py"])
    together = make_tree(tmp_path / "b/tree", {"lib/x.py": MODULE, "lib/a.py": other})
    compile_here(together, "list", ["/lib/a.py", "/lib/x.py"])
    assert read_byte_code(alone).items() <= read_byte_code(together).items()


def test_byte_code_does_not_depend_on_order_or_errors(tmp_path: Path) -> None:
    """Real modules give the same bytes in any order, and among files that cannot be compiled or
    that load a codec."""
    standard = Path(os.__file__).parent
    names = sorted(each.name for each in standard.glob("*.py") if each.name.isascii())[:80]
    tree = make_tree(
        tmp_path / "tree",
        {
            **{f"lib/{name}": (standard / name).read_bytes() for name in names},
            "lib/a_error.py": b"def f(:\n",
            "lib/m_codec.py": b"# -*- coding: koi8-r -*-\n",
            "lib/n_codec.py": b"# -*- coding: no-such -*-\n",
        },
    )
    paths = sorted(f"/lib/{name}" for name in os.listdir(tree / "lib"))
    compile_here(tree, "forward", paths)
    forward = read_byte_code(tree)
    assert len(forward) == len(names) + 1
    shutil.rmtree(tree / "lib/__pycache__")
    compile_here(tree, "backward", paths[::-1])
    assert read_byte_code(tree) == forward


@pytest.mark.parametrize("umask", [0o002, 0o077])
def test_umask_does_not_show(tmp_path: Path, umask: int) -> None:
    """Byte code and its directory have the modes of bundles."""
    tree = make_tree(tmp_path / "tree", {"lib/x.py": MODULE})
    before = os.umask(umask)
    try:
        compile_here(tree, "list", ["/lib/x.py"])
    finally:
        os.umask(before)
    (made,) = (tree / "lib/__pycache__").iterdir()
    assert made.parent.stat().st_mode & 0o777 == 0o755
    assert made.stat().st_mode & 0o777 == 0o644


def test_byte_code_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    """A full disk or the like is not taken for another language; the file is named."""
    tree = make_tree(
        tmp_path / "tree", {"lib/x.py": MODULE, "etc/x.py": MODULE, "etc/__pycache__": b"a file"}
    )
    with pytest.raises(subprocess.CalledProcessError) as caught:
        compile_here(tree, "list", ["/lib/x.py", "/etc/x.py"])
    assert b"compiling /etc/x.py ended" in caught.value.stderr


def test_other_languages_are_left_alone(tmp_path: Path) -> None:
    """A template or a test of a Python of long ago is no error and gets no byte code."""
    tree = make_tree(tmp_path / "tree", {"lib/old.py": b"print 'x'\n", "lib/x.py": MODULE})
    compile_here(tree, "list", ["/lib/old.py", "/lib/x.py"])
    assert len(read_byte_code(tree)) == 1


def make_python(tree: Path, *, extensions: bool = False) -> None:
    """Put an interpreter of this machine into a tree, with its libraries and modules.

    Args:
        extensions: Also those modules that need further libraries.
    """
    real = Path("/usr/bin/python3").resolve()
    if not real.is_file():
        pytest.skip("this machine has no /usr/bin/python3")
    standard = Path("/usr/lib") / real.name
    modules = map(str, standard.glob("lib-dynload/*.so")) if extensions else ()
    command = ["ldd", str(real), *modules]
    listed = subprocess.run(command, capture_output=True, text=True, timeout=60).stdout
    libraries = {word for word in listed.split() if word.startswith("/") and word[-1] != ":"}
    for path in (str(real), *libraries):
        target = tree / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    (tree / "usr/bin/python3").symlink_to(real.name)
    ignored = ["__pycache__", "test*", "config-*", "idlelib", *([] if extensions else ["*.so"])]
    shutil.copytree(
        standard,
        tree / str(standard).lstrip("/"),
        ignore=shutil.ignore_patterns(*ignored),
        symlinks=True,
    )


@pytest.mark.root
@pytest.mark.slow
def test_the_trees_own_interpreter_compiles(tmp_path: Path) -> None:
    """Byte code is made in a chroot, in parallel, twice the same, and nothing else stays behind."""
    if os.geteuid() != 0:
        pytest.skip("needs root to chroot")
    tree = make_tree(tmp_path / "tree", {"opt/web/x.py": MODULE, "opt/web/not-one.py": MODULE})
    make_python(tree)
    seen: list[tuple[int, int]] = []
    first = normalise.compile_bytecode(tree, progress=lambda *each: seen.append(each))
    assert first > 100
    assert seen[-1] == (first, first)
    before = scan_tree(tree)
    (content,) = read_byte_code(tree, "opt/web").values()
    assert marshal.loads(content[16:]).co_filename == "/opt/web/x.py"
    normalise.normalise(tree, self_contained=True)
    normalise.compile_bytecode(tree, processes=3)
    after = scan_tree(tree)
    assert [each for each in after.files if each not in set(before.files)] == []
    assert [path for path in os.listdir(tree) if path.startswith(".")] == []


@pytest.mark.root
def test_interpreter_that_does_not_run_is_an_error(tmp_path: Path) -> None:
    """A tree whose Python cannot even start is no bundle; the tree is left clean."""
    if os.geteuid() != 0:
        pytest.skip("needs root to chroot")
    tree = make_tree(tmp_path / "tree", {"usr/bin/python3": b"#!/none\n", "lib/x.py": MODULE})
    (tree / "usr/bin/python3").chmod(0o755)
    with pytest.raises(BuildError, match="cannot make byte code"):
        normalise.compile_bytecode(tree)
    assert sorted(os.listdir(tree)) == ["lib", "usr"]
