"""A directory is in use while any process runs from it, however it got there."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from appbundle.system.in_use import paths_in_use


@pytest.fixture
def apps(tmp_path: Path) -> Path:
    """Two versions of an app, with a program in each."""
    for version in ("1", "2"):
        (tmp_path / "apps/app" / version / "bin").mkdir(parents=True)
        found = shutil.which("sleep")
        assert found
        shutil.copy(found, tmp_path / "apps/app" / version / "bin")
    return tmp_path / "apps"


@contextmanager
def _running(*argv: str, cwd: Path | None = None) -> Iterator[None]:
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, cwd=cwd, text=True)
    try:
        assert process.stdout
        if "ready" in " ".join(argv):
            assert process.stdout.readline() == "ready\n"
        yield
    finally:
        process.kill()
        process.communicate()


def test_unused_is_not_reported(apps: Path) -> None:
    """Nothing runs from either version."""
    assert paths_in_use(str(apps)) == set()


def test_program_is_use(apps: Path) -> None:
    """A process executes a file of the version."""
    with _running(str(apps / "app/1/bin/sleep"), "100"):
        assert paths_in_use(str(apps)) == {str(apps / "app/1")}
        assert paths_in_use(os.fsencode(apps), depth=1) == {str(apps / "app")}
    assert paths_in_use(str(apps)) == set()


def test_deleted_program_is_still_use(apps: Path) -> None:
    """Removing the file does not end the process."""
    with _running(str(apps / "app/1/bin/sleep"), "100"):
        (apps / "app/1/bin/sleep").unlink()
        assert paths_in_use(str(apps)) == {str(apps / "app/1")}


def test_working_directory_is_use(apps: Path) -> None:
    """Even of a process whose program is elsewhere."""
    with _running("sleep", "100", cwd=apps / "app/2/bin"):
        assert paths_in_use(str(apps)) == {str(apps / "app/2")}


def test_mapped_file_is_use(apps: Path) -> None:
    """As a library is, long after its descriptor was closed."""
    library = apps / "app/2/lib.so"
    library.write_bytes(bytes(4096))
    code = (
        f"import mmap; f = open({str(library)!r}, 'rb'); "
        "m = mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ); f.close(); "
        "print('ready', flush=True); input()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout
    process.stdout.readline()
    assert paths_in_use(str(apps)) == {str(apps / "app/2")}
    process.communicate("\n")


def test_names_that_only_begin_alike_are_not_use(apps: Path) -> None:
    """`apps-old` is not below `apps`."""
    other = apps.with_name("apps-old") / "app/1"
    other.mkdir(parents=True)
    with _running("sleep", "100", cwd=other):
        assert paths_in_use(str(apps)) == set()


def test_prefix_may_be_a_link(apps: Path) -> None:
    """Paths come back as the caller spells them."""
    link = apps.with_name("link")
    link.symlink_to(apps)
    with _running("sleep", "100", cwd=apps / "app/1"):
        assert paths_in_use(str(link)) == {str(link / "app/1")}


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_mount_in_another_namespace_is_use(apps: Path) -> None:
    """A sandbox shows `/` as its root; its mount table gives it away."""
    script = f"mount --bind {apps}/app/1 /mnt && echo ready && exec sleep 100"
    with _running("unshare", "--mount", "sh", "-c", script):
        assert paths_in_use(str(apps)) == {str(apps / "app/1")}
    assert paths_in_use(str(apps)) == set()


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_own_file_system_of_the_prefix(apps: Path) -> None:
    """Also where /apps is a mount of its own, in the observer's namespace and the sandbox's."""
    code = (
        "import subprocess, sys; from appbundle.system.in_use import paths_in_use\n"
        f"apps = {str(apps)!r}\n"
        "subprocess.run(['mount', '-t', 'tmpfs', 'none', apps], check=True)\n"
        "subprocess.run(['mkdir', '-p', apps + '/app/7/bin'], check=True)\n"
        "script = f'mount --bind {apps}/app/7 /mnt && umount -l {apps} && echo ready; read x'\n"
        "p = subprocess.Popen(['unshare', '-m', 'sh', '-c', script], stdin=-1, stdout=-1)\n"
        "p.stdout.readline()\n"
        "print(paths_in_use(apps)); p.kill()\n"
    )
    done = subprocess.run(
        ["unshare", "--mount", sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == f"{{{str(apps / 'app/7')!r}}}\n", done.stderr
