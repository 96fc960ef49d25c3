"""Removes from a tree what depends on where, when and by whom it was made. `checks` comes first."""

import os
import secrets
import shutil
import stat
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from appbundle.build import bytecode
from appbundle.build.checks import relative_target
from appbundle.build.view import View, Where
from appbundle.errors import BuildError
from appbundle.system import files, process

PYTHONS = ("/usr/local/bin/python3", "/usr/bin/python3", "/bin/python3")
"""Where a tree's interpreter is looked for."""

_CACHE = "__pycache__"
_EXECUTABLE = 0o111
_COMPILE_TIMEOUT_S = 1800.0
_SKIPPED = frozenset({"bin", "sbin"})
_DOCUMENTATION = "usr/share/doc/"
_ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "LANG": "C.UTF-8",
    "PYTHONHASHSEED": "0",
}

Progress = Callable[[int, int], None]


def _nobody(done: int, total: int) -> None:
    """Tell nobody how far it is."""


def normalise(tree: Path, *, self_contained: bool) -> None:
    """Give every entry one of the modes of bundles, break hard links, and drop byte code.

    Args:
        tree: Changed in place.
        self_contained: It is a root of its own: absolute links mean its own files, and become
            relative.
    """
    os.chmod(tree, files.DIRECTORY_MODE)
    _normalise(os.fspath(tree), "", self_contained)


def _normalise(here: str, prefix: str, self_contained: bool) -> None:
    with os.scandir(here) as entries:
        for entry in list(entries):
            path = prefix + entry.name
            status = entry.stat(follow_symlinks=False)
            if stat.S_ISLNK(status.st_mode):
                if self_contained:
                    _make_relative(entry.path, path)
            elif not stat.S_ISDIR(status.st_mode):
                _normalise_file(entry.path, status)
            elif entry.name == _CACHE:
                files.remove_tree(entry.path)
            else:
                os.chmod(entry.path, files.DIRECTORY_MODE)
                _normalise(entry.path, path + "/", self_contained)


def _make_relative(full: str, path: str) -> None:
    target = os.readlink(full)
    relative = relative_target(path, target)
    if relative != target:
        os.unlink(full)
        os.symlink(relative, full)


def _normalise_file(full: str, status: os.stat_result) -> None:
    if status.st_nlink > 1:
        # The other name may lie outside the tree, and would get our mode.
        temporary = f"{full}.{secrets.token_hex(4)}"
        shutil.copyfile(full, temporary)
        os.rename(temporary, full)
    mode = 0o755 if status.st_mode & _EXECUTABLE else 0o644
    if status.st_nlink > 1 or stat.S_IMODE(status.st_mode) != mode:
        os.chmod(full, mode)


# Byte code ----------------------------------------------------------------------------------------


def compile_bytecode(
    tree: Path,
    *,
    base: str = "",
    processes: int | None = None,
    progress: Progress = _nobody,
) -> int:
    """Make byte code for a tree's Python files, with the interpreter that will read it.

    The tree's own interpreter runs with the tree as its root; for a bundle on a base it is the
    base's. A tree without any interpreter gets no byte code.

    Args:
        tree: Normalised: it has none yet.
        base: Root of the base system, or empty for a self-contained tree.
        processes: How many at once; as many as processors by default.
        progress: Told files done and files in all.

    Returns:
        How many files were looked at.

    Raises:
        BuildError: The interpreter does not run, or cannot write.
    """
    sources = sorted(_python_files(os.fspath(tree), ""))
    command = _interpreter(tree, base)
    if not sources or not command:
        return 0
    # A directory in the tree is what the interpreter sees from its root.
    room = tree / f".compile-{secrets.token_hex(4)}"
    room.mkdir(mode=0o755)
    try:
        shutil.copyfile(bytecode.__file__, room / "bytecode.py")
        count = processes or len(os.sched_getaffinity(0))
        lists = [sources[at::count] for at in range(count)]
        _compile_lists(command, tree, room, lists, progress)
    finally:
        files.remove_tree(room)
    return len(sources)


def _python_files(here: str, prefix: str) -> Iterator[str]:
    with os.scandir(here) as entries:
        for entry in entries:
            path = f"{prefix}/{entry.name}"
            if entry.is_dir(follow_symlinks=False):
                if entry.name not in _SKIPPED and not path.startswith(f"/{_DOCUMENTATION}"):
                    yield from _python_files(entry.path, path)
            elif _is_module(entry.name) and entry.is_file(follow_symlinks=False):
                yield path


def _is_module(name: str) -> bool:
    """Whether a file can be imported; byte code of others would never be read."""
    return name.endswith(".py") and name[:-3].isidentifier()


def _interpreter(tree: Path, base: str) -> list[str]:
    """Say how to start the interpreter, up to its own options."""
    view = View(os.fspath(tree))
    for path in PYTHONS:
        if not isinstance(view.find(path), Where):
            # Without privileges a user namespace lends the right to chroot.
            become = [] if os.geteuid() == 0 else ["unshare", "--map-root-user"]
            return [*become, "chroot", os.fspath(tree), path]
    if base:
        return next(([path] for path in PYTHONS if os.path.exists(base.rstrip("/") + path)), [])
    return []


def _compile_lists(
    command: list[str],
    tree: Path,
    room: Path,
    lists: list[list[str]],
    progress: Progress,
) -> None:
    """Run the interpreter once a list, all at the same time."""
    done = [0] * len(lists)
    total = sum(map(len, lists))
    lock = threading.Lock()
    # Only inside a chroot are the tree's paths those that the service will see.
    in_chroot = "chroot" in command
    prefix, own = ("", f"/{room.name}") if in_chroot else (os.fspath(tree), os.fspath(room))

    def heard(at: int, line: str) -> None:
        with lock:
            done[at] = int(line) if line.isascii() and line.isdigit() else done[at]
            progress(sum(done), total)

    def compile_list(at: int) -> None:
        (room / f"list-{at}").write_text("".join(f"{path}\n" for path in lists[at]))
        options = ["-s", "-S", "-B", "-W", "ignore", "-X", "utf8"]
        try:
            process.run(
                [*command, *options, f"{own}/bytecode.py", prefix, f"{own}/list-{at}"],
                environment=_ENVIRONMENT,
                timeout_s=_COMPILE_TIMEOUT_S,
                heard=lambda line: heard(at, line),
            )
        except process.ProgramError as error:
            raise BuildError(
                f"the tree's Python cannot make byte code: {error.what}",
                kept="no bundle was written",
                hint=error.hint,
            ) from error

    with ThreadPoolExecutor(len(lists)) as pool:
        list(pool.map(compile_list, range(len(lists))))
