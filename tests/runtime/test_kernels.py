"""Other callers and other kernels: without privileges, and without the mount API of Linux 5.2."""

import errno
import os
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from appbundle.cli import run as cli
from appbundle.cli import session
from appbundle.flows import enter as entering
from appbundle.flows import run as flow
from appbundle.runtime import descriptors
from appbundle.system import libc, mounts, namespaces

from .node import HAS_LIBRARIES, declare_services, make_node, make_service

pytestmark = pytest.mark.root

NOBODY = 65534
_MOUNT_API = range(428, 443)


def _fork(tmp_path: Path, prepare: Callable[[], None], words: list[str]) -> tuple[int, str]:
    """Run `appb` in a forked child after some preparation; give its status and all it printed."""
    # Imported before the child gives up its right to read them.
    assert flow.__name__
    assert session.__name__
    assert descriptors.__name__
    assert signal.__name__
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


@pytest.fixture
def nobodys_service(nobodys: Path) -> Path:
    """A node of nobody's with one declared service."""
    shutil.rmtree(nobodys)
    nobodys.mkdir()
    make_service(nobodys, entitlements=HAS_LIBRARIES)
    for directory, names, files in os.walk(nobodys):
        for name in (".", *names, *files):
            os.chown(os.path.join(directory, name), NOBODY, NOBODY, follow_symlinks=False)
    return nobodys


_SERVICES_QUESTIONS = (
    "id -u; while read k v; do case $k in Cap*|NoNew*|Seccomp:) echo $k $v;; esac; "
    "done < /proc/self/status; for d in / /run /dev /var/lib/hello /var/cache/hello "
    "/var/log/hello /run/hello /tmp /var/tmp; do touch $d/probe 2>/dev/null && echo writable $d; "
    "done; echo interfaces $(ls /proc/self/net/dev_snmp6 2>/dev/null || echo unknown); "
    "readlink /proc/self/ns/net; exit 3"
)


@pytest.mark.parametrize("old", [False, True], ids=["new", "old"])
def test_services_need_no_privileges(
    nobodys_service: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, old: bool
) -> None:
    """Nobody's service has its directories, filter and network namespace, on old kernels, too."""
    if old:
        _forget_mount_api(monkeypatch)
    ask = ["hello", "--", "/bin/sh", "-c", _SERVICES_QUESTIONS]
    status, output = _fork(tmp_path, _become_nobody, ["--root", str(nobodys_service), "run", *ask])
    if "user namespaces" in output:
        pytest.skip(f"this kernel gives nobody a user namespace: {output}")
    assert status == 3, output
    lines = output.splitlines()
    assert lines[0] == "61206"
    assert {line.split()[1] for line in lines if line.startswith("Cap")} == {"0" * 16}
    assert {"NoNewPrivs: 1", "Seccomp: 2"} <= set(lines)
    assert [line.split()[1] for line in lines if line.startswith("writable")] == [
        *("/var/lib/hello", "/var/cache/hello", "/var/log/hello", "/run/hello"),
        *("/tmp", "/var/tmp"),
    ]
    assert (nobodys_service / "var/log/hello/probe").stat().st_uid == NOBODY
    assert os.readlink("/proc/self/ns/net") not in lines


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"entitlements": ["bind-low"]}, "capabilities, which only root can give"),
        ({"limits": {"memory_bytes": 1 << 26}}, "nothing here can hold the declared limits"),
    ],
)
def test_what_needs_privileges_is_refused(
    nobodys_service: Path, tmp_path: Path, fields: dict[str, object], words: str
) -> None:
    """Nothing that a bundle counts on is left out in silence."""
    service = {"name": "hello", "argv": ["/bin/true"], **fields}
    declare_services(nobodys_service / "apps/hello/1.0", [service])
    status, output = _fork(
        tmp_path, _become_nobody, ["--root", str(nobodys_service), "run", "hello"]
    )
    if "user namespaces" in output:
        pytest.skip(f"this kernel gives nobody a user namespace: {output}")
    assert status == 1, output
    assert words in output


@pytest.mark.parametrize("missing", ["landlock", "users", "hidepid"])
def test_kernel_that_lacks_a_further_wall(
    nobodys_service: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    """Where the kernel has no landlock, grants no user namespace, or less of proc, it runs."""
    real_syscall, real_unshare, real_mount = libc.syscall, libc.unshare, mounts.mount

    def syscall(number: int, *arguments: int | bytes | None) -> int:
        if number == 444:
            raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))
        return real_syscall(number, *arguments)

    def unshare(flags: int) -> None:
        if flags == namespaces.USER:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real_unshare(flags)

    def mount(
        kind: str, dir_fd: int, path: str, *, attributes: int, options: dict[str, str]
    ) -> int:
        if "subset" in options:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        return real_mount(kind, dir_fd, path, attributes=attributes, options=options)

    match missing:
        case "landlock":
            monkeypatch.setattr(libc, "syscall", syscall)
        case "users":
            monkeypatch.setattr(libc, "unshare", unshare)
        case _:
            monkeypatch.setattr(mounts, "mount", mount)
    for directory, names, files in os.walk(nobodys_service):
        for name in (".", *names, *files):
            os.chown(os.path.join(directory, name), 0, 0, follow_symlinks=False)
    words = ["--root", str(nobodys_service), "run", "hello", "--", "/bin/sh", "-c"]
    script = "id -u; ls -d /proc/[0-9]*; exit 4"
    status, output = _fork(tmp_path, lambda: None, [*words, script])
    assert status == 4, output
    assert output.splitlines()[0] == "61206"
    # Neither way shows init, or anybody else's process.
    assert "/proc/1" not in output.split()


def test_unprivileged_caller_enters_his_own_service(nobodys_service: Path, tmp_path: Path) -> None:
    """exec needs no more than run does: the namespaces are the caller's."""
    script = "echo mine > /tmp/note; echo up > /var/lib/hello/up; read x"
    words = ["--root", str(nobodys_service), "run", "hello", "--", "/bin/sh", "-c", script]
    reader, writer = os.pipe()
    service = os.fork()
    if service == 0:
        os.dup2(reader, 0)
        os.close(writer)
        _become_nobody()
        os._exit(cli.fast(words) or 0)
    os.close(reader)
    try:
        up = nobodys_service / "var/lib/hello/up"
        for _ in range(500):
            if up.exists() or os.waitpid(service, os.WNOHANG)[0]:
                break
            time.sleep(0.01)
        if not up.exists():
            pytest.skip("this kernel gives nobody a user namespace")

        def enter_as_nobody() -> None:
            _become_nobody()
            os._exit(
                os.waitstatus_to_exitcode(
                    entering.execute(
                        str(nobodys_service),
                        "hello",
                        ("/bin/sh", "-c", "cat /tmp/note; id -u; exit 5"),
                    )
                )
            )

        status, output = _fork(tmp_path, enter_as_nobody, [])
    finally:
        os.close(writer)
    assert status == 5, output
    assert output.split() == ["mine", "61206"]
    os.waitpid(service, 0)
