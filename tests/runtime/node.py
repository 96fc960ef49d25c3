"""A node with one small real app: a shell and a few programs, with their libraries."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

PROGRAMS = ("sh", "cat", "env", "id", "ls", "sleep", "touch", "true")
MOUNT_POINTS = ("dev", "proc", "run", "tmp", "var/lib/hello")
_RUN = "import sys; from appbundle.cli.run import fast; sys.exit(fast(sys.argv[1:]))"
_MAIN = "import sys; from appbundle.__main__ import main; sys.exit(main())"


def make_node(root: Path, *, versions: tuple[str, ...] = ("1.0",), name: str = "hello") -> Path:
    """Install an app by hand; its first version is current."""
    for number, version in enumerate(versions, 1):
        make_version(root / "apps" / name / version, name=name)
        (root / f"apps/.appb/generations/{number}").mkdir(parents=True, exist_ok=True)
        link = root / f"apps/.appb/generations/{number}/{name}"
        link.symlink_to(f"../../../{name}/{version}")
    switch(root, 1)
    return root


def switch(root: Path, number: int) -> None:
    """Make a generation current as appb does: by one rename."""
    fresh = root / "apps/.appb/generations/fresh"
    fresh.symlink_to(str(number))
    fresh.rename(fresh.with_name("current"))


def make_version(tree: Path, *, name: str) -> None:
    """Make a tree with programs, libraries and mount points."""
    for directory in (*MOUNT_POINTS, f"var/lib/{name}", "bin", "etc", ".bundle"):
        (tree / directory).mkdir(parents=True, exist_ok=True)
    for program in PROGRAMS:
        _copy_program(tree, program)
    (tree / "etc/resolv.conf").touch()
    (tree / "etc/release").write_text(tree.name)
    declare(tree, argv=["/bin/sh", "-c", "exit 7"], environment={"GREETING": "hi"})


def declare(tree: Path, **run: object) -> None:
    """Write what a version declares to run; nothing without arguments."""
    about = {"manifest": {"run": run} if run else {}, "digest": "0" * 64}
    (tree / ".bundle/about.json").write_text(json.dumps(about))


def _copy_program(tree: Path, program: str) -> None:
    found = shutil.which(program)
    assert found, program
    shutil.copy(found, tree / "bin")
    listing = subprocess.run(["ldd", found], capture_output=True, text=True, check=True).stdout
    for library in re.findall(r"(/\S+) \(", listing):
        target = tree / library.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(library, target)


def appb(root: Path, *words: str) -> list[str]:
    """The argument list of an `appb run`."""
    return [sys.executable, "-I", "-c", _RUN, "--root", str(root), "run", *words]


def run(
    root: Path, *words: str, stdin: str = "", env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run `appb run` to its end."""
    return subprocess.run(
        appb(root, *words), capture_output=True, text=True, timeout=30, input=stdin, env=env
    )


def sh(root: Path, script: str) -> str:
    """What a shell script prints inside; it must succeed."""
    done = run(root, "hello", "--", "/bin/sh", "-c", script)
    assert done.returncode == 0, done.stderr
    return done.stdout


def start(root: Path, script: str) -> subprocess.Popen[str]:
    """Start a shell script inside that prints a first line when it is ready; wait for that."""
    process = subprocess.Popen(
        appb(root, "hello", "--", "/bin/sh", "-c", script),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout
    assert process.stdout.readline() == "ready\n"
    return process


def descendants(pid: int) -> list[int]:
    """All processes below one."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return []
    return [found for child in map(int, children) for found in (child, *descendants(child))]


def is_alive(pid: int) -> bool:
    """Whether a process runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


ROOT = os.geteuid() == 0


SERVICE_POINTS = ("var/cache", "var/log")
PYTHON = os.path.realpath(sys.executable)
HAS_PYTHON = tuple(sorted({"read:/usr", f"read:{sys.base_prefix}"}))


HAS_LIBRARIES = tuple(f"read:{each}" for each in ("/usr/lib", "/usr/lib64") if Path(each).exists())


def make_service(
    root: Path, *, name: str = "hello", version: str = "1.0", **fields: object
) -> Path:
    """Install an app with one service by hand, or change what it declares.

    The tree has a shell; with HAS_PYTHON among its entitlements it has the host's Python, too.
    """
    tree = root / "apps" / name / version
    if not tree.exists():
        make_node(root, versions=(version,), name=name)
        for point in (
            *(f"{each}/{name}" for each in SERVICE_POINTS),
            "var/tmp",
            "usr/lib",
            "usr/lib64",
        ):
            (tree / point).mkdir(parents=True)
        (tree / sys.base_prefix.strip("/")).mkdir(parents=True, exist_ok=True)
        for link in ("lib", "lib64"):
            if (tree / link).exists():
                shutil.rmtree(tree / link)
            if Path("/", link).is_symlink():
                (tree / link).symlink_to(f"usr/{link}")
    declare_services(tree, [{"name": name, "argv": ["/bin/true"], **fields}])
    return root


def declare_services(tree: Path, services: list[dict[str, object]], **more: object) -> None:
    """Write which services a version declares, and what else its manifest has."""
    about = {"manifest": {"services": services, **more}, "digest": "0" * 64}
    (tree / ".bundle/about.json").write_text(json.dumps(about))


def argv(root: Path, *words: str) -> list[str]:
    """The argument list of any `appb` command."""
    return [sys.executable, "-I", "-c", _MAIN, "--root", str(root), *words]


def command(root: Path, *words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """Run any `appb` command to its end."""
    return subprocess.run(
        argv(root, *words), capture_output=True, text=True, timeout=30, input=stdin
    )
