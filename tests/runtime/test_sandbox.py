"""What a service sees and may do: asked from inside a real sandbox."""

import json
import os
import socket
import subprocess
from pathlib import Path

import pytest

from .node import appb, declare, make_node, run, sh

pytestmark = pytest.mark.root


def _mounts(node: Path) -> dict[str, tuple[str, set[str], str]]:
    """By mount point: the path on the device, the flags, the kind."""
    lines = [line.split() for line in sh(node, "cat /proc/self/mountinfo").splitlines()]
    return {f[4]: (f[3], set(f[5].split(",")), f[f.index("-") + 1]) for f in lines}


def test_root_is_the_version_itself_read_only(tree: Path) -> None:
    """The root is the version's directory, not a link's target later, and ro,nosuid,nodev."""
    source, flags, _ = _mounts(tree)["/"]
    assert source.endswith("/apps/hello/1.0")
    assert flags >= {"ro", "nosuid", "nodev"}


def test_nothing_of_the_host_is_mounted(tree: Path) -> None:
    """Beside fresh file systems there are only the tree, the state, devices and resolv.conf."""
    foreign = {
        point: source
        for point, (source, _, kind) in _mounts(tree).items()
        if kind not in ("proc", "tmpfs", "devpts", "devtmpfs")
    }
    assert foreign.keys() == {"/", "/var/lib/hello", "/etc/resolv.conf"}


def test_every_mount_but_the_devices_refuses_devices_and_setuid(tree: Path) -> None:
    """nosuid everywhere; nodev everywhere but on the device nodes and terminals."""
    for point, (_, flags, _) in _mounts(tree).items():
        assert "nosuid" in flags, point
        assert "nodev" in flags or point.startswith("/dev/"), point


def test_only_state_and_private_tmpfs_are_writable(tree: Path) -> None:
    """A file can be made in the state directory, /tmp and /dev/shm, and in no other directory."""
    script = (
        "for d in / /bin /etc /run /dev /dev/pts /proc /var /var/lib /var/lib/hello /tmp /dev/shm; "
        "do touch $d/probe 2>/dev/null && echo $d; done; true"
    )
    assert sh(tree, script).split() == ["/var/lib/hello", "/tmp", "/dev/shm"]


def test_files_of_the_tree_cannot_be_changed(tree: Path) -> None:
    """Not even by truncating one that is there."""
    done = run(tree, "hello", "--", "/bin/sh", "-c", "echo x > /etc/release")
    assert done.returncode != 0
    assert (tree / "apps/hello/1.0/etc/release").read_text() == "1.0"


def test_state_lasts_and_tmp_does_not(tree: Path) -> None:
    """The state directory keeps what is written there; /tmp begins empty each time."""
    sh(tree, "echo kept > /var/lib/hello/note; echo gone > /tmp/note")
    assert sh(tree, "cat /var/lib/hello/note; ls /tmp") == "kept\n"
    assert (tree / "var/lib/hello/note").read_text() == "kept\n"


def test_user_has_no_groups_and_no_capabilities(tree: Path) -> None:
    """One unprivileged user and group, all five capability sets empty, no new privileges."""
    status = dict(
        line.split(":", 1) for line in sh(tree, "cat /proc/self/status").splitlines() if ":" in line
    )
    owner = (tree / "var/lib/hello").stat()
    assert set(status["Uid"].split()) == {str(owner.st_uid)}
    assert set(status["Gid"].split()) == {str(owner.st_gid)}
    assert 61184 <= owner.st_uid <= 65519
    assert status["Groups"].split() == []
    for kind in ("Inh", "Prm", "Eff", "Bnd", "Amb"):
        assert int(status["Cap" + kind], 16) == 0, kind
    assert status["NoNewPrivs"].strip() == "1"


def test_environment_is_clean_and_declared(tree: Path) -> None:
    """Nothing of the caller's environment gets in, whatever its name."""
    caller = {"LD_PRELOAD": "", "PYTHONPATH": "/x", "SECRET": "1", "PATH": os.environ["PATH"]}
    done = run(tree, "hello", "--", "env", env=caller)
    assert dict(line.split("=", 1) for line in done.stdout.splitlines()) == {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": "/var/lib/hello",
        "USER": "appb-hello",
        "LANG": "C.UTF-8",
        "TMPDIR": "/tmp",
        "GREETING": "hi",
    }


def test_only_its_own_processes_are_visible(tree: Path) -> None:
    """/proc is of a new pid namespace: init, the shell and its child."""
    assert sh(tree, "for p in /proc/[0-9]*; do echo ${p#/proc/}; done").split() == ["1", "2"]


def test_init_cannot_be_inspected(tree: Path) -> None:
    """The service learns nothing of the host from its init's files or program."""
    assert (
        sh(tree, "ls /proc/1/fd /proc/1/root/ 2>/dev/null; cat /proc/1/environ 2>/dev/null; :")
        == ""
    )


def test_host_is_named_after_the_app(tree: Path) -> None:
    """The host name inside is the app's; the host keeps its own."""
    before = socket.gethostname()
    assert sh(tree, "cat /proc/sys/kernel/hostname") == "hello\n"
    assert socket.gethostname() == before


def test_devices_work(tree: Path) -> None:
    """The usual devices and links are there and do what they should."""
    script = "echo x > /dev/null; echo to-stdout > /proc/self/fd/1; : < /dev/urandom; ls /dev"
    output = sh(tree, script).split()
    assert output[0] == "to-stdout"
    assert set(output[1:]) == {
        *("fd", "full", "null", "ptmx", "pts", "random", "shm"),
        *("stderr", "stdin", "stdout", "tty", "urandom", "zero"),
    }


def test_open_descriptors_do_not_leak_in(tree: Path) -> None:
    """A directory of the host that the caller left open is no way out."""
    fd = os.dup2(os.open("/", os.O_RDONLY), 17)
    try:
        listing = subprocess.run(
            appb(tree, "hello", "--", "/bin/sh", "-c", "echo /proc/self/fd/*"),
            pass_fds=[fd],
            capture_output=True,
            text=True,
            timeout=30,
        ).stdout
    finally:
        os.close(fd)
    # The fourth is the shell's own, reading the directory.
    assert {Path(each).name for each in listing.split()} <= {"0", "1", "2", "3"}


def test_resolver_of_the_host_is_shown_only_where_the_tree_has_the_file(tree: Path) -> None:
    """/etc/resolv.conf is the host's; /etc/hosts is missing in this tree and stays so."""
    expected = Path("/etc/resolv.conf").read_text()
    assert sh(tree, "cat /etc/resolv.conf; ls /etc/hosts 2>/dev/null; true") == expected


def test_network_none_has_only_loopback(tmp_path: Path) -> None:
    """A service that declares no network gets an empty one, loopback up, and no resolver."""
    node = make_node(tmp_path)
    declare(node / "apps/hello/1.0", argv=["/bin/true"], network="none")
    output = sh(node, "cat /proc/net/dev; cat /proc/net/fib_trie; cat /etc/resolv.conf")
    interfaces = [line.split(":")[0].strip() for line in output.splitlines() if ":" in line]
    assert [name for name in interfaces if " " not in name and name.isalnum()][:1] == ["lo"]
    assert "127.0.0.1" in output
    assert "eth" not in output


def test_namespaces_are_new(tree: Path) -> None:
    """mnt, pid, ipc and uts differ from the host's; net is the host's unless declared."""
    script = "for n in mnt pid ipc uts net; do ls -l /proc/self/ns/$n; done"
    inside = {
        each.split()[-3].rpartition("/")[2]: each.split()[-1]
        for each in sh(tree, script).splitlines()
    }
    same = {name for name, link in inside.items() if os.readlink(f"/proc/self/ns/{name}") == link}
    assert same == {"net"}


def test_directory_is_entered_as_the_service(tmp_path: Path) -> None:
    """The declared working directory may be the state directory, which only the service enters."""
    node = make_node(tmp_path)
    declare(node / "apps/hello/1.0", argv=["/bin/sh", "-c", "pwd"], directory="/var/lib/hello")
    assert run(node, "hello").stdout == "/var/lib/hello\n"


def test_state_is_0700_and_the_services(tree: Path) -> None:
    """The state directory is readable by nobody else."""
    sh(tree, "true")
    assert (tree / "var/lib/hello").stat().st_mode & 0o7777 == 0o700


@pytest.mark.parametrize("place", ["tmp", "proc", "var/lib/hello", "var"])
def test_links_in_place_of_mount_points_are_refused(tmp_path: Path, place: str) -> None:
    """A tree cannot lead a mount elsewhere with a link of its own."""
    node = make_node(tmp_path)
    mount_point = node / "apps/hello/1.0" / place
    mount_point.rename(mount_point.with_name("elsewhere"))
    mount_point.symlink_to("elsewhere")
    done = run(node, "hello", "--", "/bin/true")
    assert done.returncode == 1
    assert "lacks mount points" in done.stderr


def test_missing_mount_points_are_all_named(tmp_path: Path) -> None:
    """One run reports every mount point that the tree lacks."""
    node = make_node(tmp_path)
    for name in ("proc", "var/lib/hello"):
        (node / "apps/hello/1.0" / name).rmdir()
    done = run(node, "--json", "hello")
    error = json.loads(done.stdout)["error"]
    assert error["issues"] == ["/proc", "/var/lib/hello"]
    assert not (node / "var").exists()
