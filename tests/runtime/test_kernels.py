"""Other callers and other kernels: without privileges, and without the mount API of Linux 5.2."""

import errno
import os
import shutil
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from appbundle.cli import run as cli
from appbundle.cli import session
from appbundle.flows import run as flow
from appbundle.system import libc

from .node import make_node

pytestmark = pytest.mark.root

NOBODY = 65534
_MOUNT_API = range(428, 443)


def _fork(tmp_path: Path, prepare: Callable[[], None], words: list[str]) -> tuple[int, str]:
    """Run `appb` in a forked child after some preparation; give its status and all it printed."""
    # Imported before the child gives up its right to read them.
    assert flow.__name__
    assert session.__name__
    output = tmp_path / "output"
    pid = os.fork()
    if pid == 0:
        try:
            os.dup2(os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666), 1)
            os.dup2(1, 2)
            # pytest has put its own objects there.
            sys.stderr = os.fdopen(2, "w", buffering=1)
            prepare()
            os._exit(cli.fast(words) or 0)
        except BaseException:
            os.write(2, traceback.format_exc().encode())
            os._exit(99)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), output.read_text()


def _become_nobody() -> None:
    os.setgroups([])
    os.setresgid(NOBODY, NOBODY, NOBODY)
    os.setresuid(NOBODY, NOBODY, NOBODY)
    # What an exec would do: else /proc/self is root's, and no user namespace can be set up.
    libc.prctl(libc.PR_SET_DUMPABLE, 1)


def _forget_mount_api(monkeypatch: pytest.MonkeyPatch) -> None:
    real = libc.syscall

    def syscall(number: int, *arguments: int | bytes | None) -> int:
        if number in _MOUNT_API:
            raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
        return real(number, *arguments)

    monkeypatch.setattr(libc, "syscall", syscall)


@pytest.fixture
def nobodys() -> Iterator[Path]:
    """A node that nobody owns, where nobody may walk to it."""
    if os.geteuid():
        pytest.skip("needs root to become nobody")
    root = Path(tempfile.mkdtemp(prefix="appb-test-"))
    try:
        make_node(root)
        for directory, names, files in os.walk(root):
            for name in (".", *names, *files):
                os.chown(os.path.join(directory, name), NOBODY, NOBODY, follow_symlinks=False)
        yield root
    finally:
        shutil.rmtree(root)


_QUESTIONS = (
    "id -u; cat /proc/self/status | while read k v; do case $k in Cap*|NoNew*) echo $k $v;; esac; "
    "done; for d in / /bin /run /dev /proc /var/lib /var/lib/hello /tmp; do "
    "touch $d/probe 2>/dev/null && echo writable $d; done; "
    "for p in /proc/[0-9]*; do echo pid ${p#/proc/}; done; exit 3"
)


def _check_answers(output: str) -> None:
    lines = output.splitlines()
    assert lines[0] == "61206"
    assert {line.split()[1] for line in lines if line.startswith("Cap")} == {"0" * 16}
    assert "NoNewPrivs: 1" in lines
    assert [line for line in lines if line.startswith("writable")] == [
        "writable /var/lib/hello",
        "writable /tmp",
    ]
    # cat has gone; the shell forks nothing for this.
    assert [line for line in lines if line.startswith("pid")] == ["pid 1", "pid 2"]


def test_unprivileged_caller_gets_the_same_sandbox(nobodys: Path, tmp_path: Path) -> None:
    """Without root, in a user namespace: same user number, same limits, same exit status."""
    words = ["--root", str(nobodys), "run", "hello", "--", "/bin/sh", "-c", _QUESTIONS]
    status, output = _fork(tmp_path, _become_nobody, words)
    if "user namespaces" in output:
        pytest.skip(f"this kernel gives nobody a user namespace: {output}")
    assert status == 3, output
    _check_answers(output)
    assert (nobodys / "var/lib/hello/probe").stat().st_uid == NOBODY


@pytest.mark.parametrize("prepare", [lambda: None, _become_nobody], ids=["root", "nobody"])
def test_without_the_mount_api(
    nobodys: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, prepare: Callable[[], None]
) -> None:
    """On an older kernel mount(2) builds the same sandbox."""
    if prepare is not _become_nobody:
        os.chown(nobodys, 0, 0)
    _forget_mount_api(monkeypatch)
    words = ["--root", str(nobodys), "run", "hello", "--", "/bin/sh", "-c", _QUESTIONS]
    status, output = _fork(tmp_path, prepare, words)
    assert status == 3, output
    _check_answers(output)


def test_mounts_without_the_mount_api_have_the_same_flags(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each mount point has the same source, kind and flags in both ways."""

    def table(name: str) -> dict[str, tuple[str, str]]:
        words = ["--root", str(tree), "run", "hello", "--", "cat", "/proc/self/mountinfo"]
        (tmp_path / name).mkdir()
        status, output = _fork(tmp_path / name, lambda: None, words)
        assert status == 0, output
        lines = [line.split() for line in output.splitlines()]
        return {f[4]: (f[3], f[5]) for f in lines}

    new = table("new")
    _forget_mount_api(monkeypatch)
    assert table("old") == new


def test_kernel_without_user_namespaces_is_told(
    nobodys: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A refusal names the step that failed and what would help."""

    def unshare(flags: int) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(libc, "unshare", unshare)
    words = ["--root", str(nobodys), "run", "hello"]
    status, output = _fork(tmp_path, _become_nobody, words)
    assert status == 1
    assert "cannot enter new namespaces: user, pid: Operation not permitted" in output
    assert "user.max_user_namespaces" in output
