"""Declared services under `appb run`: each protection from inside, each entitlement's one opening.

The probes are Python with ctypes: the tree has the host's, shown by `read:` entitlements.
"""

import json
import os
import platform
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from appbundle.system import cgroups, landlock

from .node import (
    HAS_LIBRARIES,
    HAS_PYTHON,
    PYTHON,
    ROOT,
    appb,
    argv,
    command,
    declare_services,
    descendants,
    make_service,
    run,
)

pytestmark = pytest.mark.root

Service = Callable[..., Path]

PRELUDE = """
import ctypes, errno, mmap, os, socket, sys
libc = ctypes.CDLL(None, use_errno=True)
def call(name, *words):
    if getattr(libc, name)(*words) != -1:
        return "done"
    return errno.errorcode[ctypes.get_errno()]
def attempt(action):
    try:
        action()
    except OSError as e:
        return errno.errorcode[e.errno]
    return "done"
"""


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A node with one app, whose declaration each test writes for itself."""
    if not ROOT:
        pytest.skip("needs root")
    return make_service(tmp_path_factory.mktemp("node"))


@pytest.fixture
def declared(node: Path) -> Service:
    """Declare the app's one service."""

    def declare(*entitlements: str, **fields: object) -> Path:
        opened = sorted({*entitlements, *HAS_PYTHON})
        service = {"name": "hello", "argv": ["/bin/true"], "entitlements": opened, **fields}
        declare_services(node / "apps/hello/1.0", [service])
        return node

    return declare


def probe(node: Path, code: str, *words: str) -> str:
    """What Python code prints inside the service."""
    done = run(node, *words, "hello", "--", PYTHON, "-I", "-c", PRELUDE + code)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


WX = "print(attempt(lambda: mmap.mmap(-1, 4096, prot=7)))"
NAMESPACE = "print(call('unshare', 0x10000000))"
INET = "print(attempt(lambda: socket.socket(socket.AF_INET)))"
NETLINK = "print(attempt(lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)))"
NICE = "print(attempt(lambda: os.setpriority(os.PRIO_PROCESS, 0, 5)))"
FIGURES = "print('done' if os.path.exists('/proc/meminfo') else 'ENOENT')"
LISTEN = "s = socket.socket(); s.bind(('127.0.0.1', 0)); print(attempt(lambda: s.listen()))"
CONNECT = (
    "s = socket.socket(socket.AF_INET); r = attempt(lambda: s.connect(('127.0.0.1', 1)));"
    "print('done' if r == 'ECONNREFUSED' else r)"
)
LOW_PORT = "s = socket.socket(); print(attempt(lambda: s.bind(('127.0.0.1', 81))))"
DEVICE = "print('done' if os.path.exists('/dev/fuse') else 'ENOENT')"
CAPABILITY = "print(attempt(lambda: os.chown('/tmp', 5, 5)))"


@pytest.mark.parametrize(
    ("code", "closed", "opening"),
    [
        (WX, "EPERM", ["jit"]),
        (NAMESPACE, "EPERM", ["namespaces"]),
        (INET, "EAFNOSUPPORT", ["listen"]),
        (INET, "EAFNOSUPPORT", ["network-out"]),
        (NETLINK, "EAFNOSUPPORT", ["netlink"]),
        (NICE, "EPERM", ["nice"]),
        (FIGURES, "ENOENT", ["procfs"]),
        (CAPABILITY, "EPERM", ["capability:chown"]),
    ],
)
def test_entitlement_opens_its_thing(
    declared: Service, code: str, closed: str, opening: list[str]
) -> None:
    """Refused by the kernel without the entitlement, done with it."""
    assert probe(declared(), code) == closed
    assert probe(declared(*opening), code) == "done"


@pytest.mark.parametrize(
    ("code", "refused_with", "done_with"),
    [
        (LISTEN, "network-out", "listen"),
        (CONNECT, "listen", "network-out"),
        (LOW_PORT, "listen", "bind-low"),
    ],
)
def test_directions_of_the_network_are_apart(
    declared: Service, code: str, refused_with: str, done_with: str
) -> None:
    """Listening, connecting and low ports are opened one by one."""
    assert probe(declared(refused_with), code) in ("EPERM", "EACCES")
    assert probe(declared(done_with), code) == "done"


@pytest.mark.parametrize(
    ("opening", "same"),
    [([], False), (["jit"], False), (["network-out"], True), (["netlink"], True)],
)
def test_network_namespace(declared: Service, opening: list[str], same: bool) -> None:
    """Without the network a service has a namespace of its own."""
    inside = probe(declared(*opening), "print(os.readlink('/proc/self/ns/net'))")
    assert (inside == os.readlink("/proc/self/ns/net")) is same


def test_device_is_only_there_if_declared(declared: Service) -> None:
    """One device, readable and writable, and no way to make another."""
    code = "print(os.path.exists('/dev/kmsg'), attempt(lambda: os.mknod('/tmp/x', 0o20600, 1)))"
    assert probe(declared(), code) == "False EPERM"
    code = "print(os.path.exists('/dev/kmsg'))"
    assert probe(declared("device:/dev/kmsg"), code) == "True"


@pytest.mark.parametrize(("kind", "answer"), [("read", "EROFS"), ("write", "done")])
def test_paths_of_the_host(
    declared: Service, node: Path, tmp_path: Path, kind: str, answer: str
) -> None:
    """A declared path of the host is seen, and written to only if that was declared."""
    tmp_path.chmod(0o777)
    (tmp_path / "note").write_text("from outside")
    mount_point = node / "apps/hello/1.0" / str(tmp_path).strip("/")
    if not str(tmp_path).startswith("/tmp/"):
        mount_point.mkdir(parents=True, exist_ok=True)
    code = (
        f"print(open('{tmp_path}/note').read());print(attempt(lambda: open('{tmp_path}/new', 'w')))"
    )
    output = probe(declared(f"{kind}:{tmp_path}"), code)
    assert output.splitlines() == ["from outside", answer]


def test_set_user_id_files_cannot_be_made(declared: Service) -> None:
    """Nor by the modes of new files and directories."""
    code = """
open("/tmp/x", "w").close()
print(attempt(lambda: os.chmod("/tmp/x", 0o4755)), attempt(lambda: os.mkdir("/tmp/d", 0o2755)))
print(attempt(lambda: os.open("/tmp/y", os.O_CREAT | os.O_WRONLY, 0o4755)))
"""
    assert probe(declared("jit"), code).split() == ["EPERM"] * 3


def test_user_namespace_gives_nothing(declared: Service) -> None:
    """Two users are known in it, and no capability can be had again."""
    code = """
status = dict(l.split(":\\t", 1) for l in open("/proc/self/status").read().splitlines() if ":" in l)
print(len(open("/proc/self/uid_map").readlines()), os.stat("/").st_uid)
print({int(status["Cap" + k], 16) for k in ("Inh", "Prm", "Eff", "Bnd", "Amb")})
print(status["NoNewPrivs"], status["Seccomp"], os.readlink("/proc/self/ns/user"))
"""
    lines = probe(declared(), code).splitlines()
    assert lines[:2] == ["2 0", "{0}"]
    assert lines[2].split()[:2] == ["1", "2"]
    assert lines[2].split()[2] != os.readlink("/proc/self/ns/user")


def test_capabilities_are_exactly_the_declared_ones(declared: Service) -> None:
    """In all five sets, also in a program that it starts."""
    code = """
import subprocess
out = subprocess.run(["/bin/cat", "/proc/self/status"], capture_output=True, text=True).stdout
print({l.split()[1] for l in out.splitlines() if l.startswith("Cap")})
"""
    assert probe(declared("bind-low", "listen"), code) == str({f"{1 << 10:016x}"})


def test_hidden_processes(declared: Service) -> None:
    """Only its own processes are seen, not even init."""
    code = "print(sorted(p for p in os.listdir('/proc') if p.isdigit()))"
    assert probe(declared(), code) == "['2']"


def test_directories_are_the_services(declared: Service) -> None:
    """State, cache, logs and runtime directories last and are 0700; everything else is closed."""
    node = declared()
    code = """
for d in ("lib", "cache", "log"):
    open(f"/var/{d}/hello/note", "w").close()
open("/run/hello/note", "w").close()
open("/var/tmp/note", "w").close()
for d in ("/", "/var", "/var/cache", "/var/log", "/run", "/etc", "/dev", "/usr"):
    assert attempt(lambda: open(d + "/x", "w")) in ("EROFS", "EACCES"), d
print(oct(os.umask(0)))
"""
    assert probe(node, code) == "0o77"
    for place in ("var/lib", "var/cache", "var/log", "run"):
        status = (node / place / "hello").stat()
        assert status.st_mode & 0o7777 == 0o700
        assert status.st_uid == (node / "var/lib/hello").stat().st_uid
        assert (node / place / "hello/note").exists()


def test_ephemeral_leaves_nothing(declared: Service) -> None:
    """It starts empty, may write, and what it wrote is gone; the lasting state is not seen."""
    node = declared()
    probe(node, "open('/var/lib/hello/kept', 'w').close()")
    code = """
print(os.listdir("/var/lib/hello"))
for d in ("/var/lib", "/var/cache", "/var/log", "/run"):
    open(d + "/hello/gone", "w").close()
"""
    assert probe(node, code, "--ephemeral") == "[]"
    assert not list(node.glob("**/gone"))
    assert (node / "var/lib/hello/kept").exists()


def test_foreign_directory_is_refused(declared: Service) -> None:
    """A log directory of another user's is neither taken over nor shown."""
    node = declared()
    logs = node / "var/log/hello"
    run(node, "hello")
    os.chown(logs, 105, 105)
    try:
        done = run(node, "hello")
    finally:
        os.chown(logs, *(os.stat(node / "var/lib/hello").st_uid,) * 2)
    assert done.returncode == 1
    assert "var/log/hello belongs to user 105" in done.stderr


def test_user_has_a_name(declared: Service, node: Path) -> None:
    """The tree's passwd and group files give way to ones with the service's user."""
    etc = node / "apps/hello/1.0/etc"
    for name in ("passwd", "group"):
        (etc / name).write_text("wrong:x:1:1::/:/bin/sh\n")
    try:
        code = "import grp, pwd; u = pwd.getpwuid(os.getuid()); print(u.pw_name, u.pw_dir)"
        code += "; print(grp.getgrgid(os.getgid()).gr_name, pwd.getpwuid(0).pw_name)"
        output = probe(declared(), code)
    finally:
        for name in ("passwd", "group"):
            (etc / name).unlink()
    assert output.split() == ["appb-hello", "/var/lib/hello", "appb-hello", "root"]


@pytest.mark.skipif(not landlock.version(), reason="this kernel has no landlock")
def test_abstract_sockets_of_the_host_are_out_of_reach(declared: Service) -> None:
    """Who shares the host's network still reaches none of its abstract sockets."""
    if landlock.version() < 6:
        pytest.skip("this kernel's landlock knows no sockets")
    name = f"appb-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("\0" + name)
        listener.listen()
        code = f"""
s = socket.socket(socket.AF_UNIX); print(attempt(lambda: s.connect("\\0{name}")))
mine, other = socket.socket(socket.AF_UNIX), socket.socket(socket.AF_UNIX)
mine.bind("\\0own"); mine.listen(); print(attempt(lambda: other.connect("\\0own")))
"""
        assert probe(declared("listen", "network-out"), code).split() == ["EPERM", "done"]


@pytest.fixture
def limited(declared: Service) -> Service:
    """Skips where no control group can be made."""
    if not {"memory", "pids"} <= set(cgroups.parents()):
        pytest.skip("no control group can be made here")
    return declared


def test_tasks_are_limited(limited: Service) -> None:
    """A fork beyond the limit fails, inside and nowhere else."""
    code = """
n = 0
try:
    while n < 50:
        if os.fork() == 0:
            import time; time.sleep(5); os._exit(0)
        n += 1
except BlockingIOError:
    pass
print(n)
"""
    assert probe(limited(limits={"tasks": 5}), code) == "4"


def test_memory_is_limited(limited: Service) -> None:
    """Who takes more than the limit is killed, and the control group is gone afterwards."""
    node = limited(limits={"memory_bytes": 32 << 20})
    code = PRELUDE + "x = b'x' * (200 << 20); print('had it')"
    done = run(node, "hello", "--", PYTHON, "-I", "-c", code)
    assert done.returncode == -signal.SIGKILL
    assert done.stdout == ""
    assert not _groups()


def test_open_files_are_limited(declared: Service) -> None:
    """The declared number a process."""
    code = "import resource; print(resource.getrlimit(resource.RLIMIT_NOFILE))"
    assert probe(declared(limits={"open_files": 77}), code) == "(77, 77)"


def _groups() -> list[str]:
    """Groups that somebody has left who made them; others may have some meanwhile."""
    return [
        f"{parent}/{name}"
        for parent in set(cgroups.parents().values())
        for name in os.listdir(parent)
        if name.startswith("appb-hello") and not Path(f"/proc/{name.rpartition('~')[2]}").exists()
    ]


@pytest.fixture
def running(declared: Service) -> Iterator[Callable[..., tuple[Path, subprocess.Popen[str]]]]:
    """Start the service with Python code that prints a line when it is ready."""
    started: list[subprocess.Popen[str]] = []

    def start(code: str, *words: str, **fields: object) -> tuple[Path, subprocess.Popen[str]]:
        node = declared(argv=[PYTHON, "-I", "-u", "-c", PRELUDE + code], **fields)
        process = subprocess.Popen(
            appb(node, *words, "hello"), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        started.append(process)
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
        return node, process

    yield start
    for process in started:
        process.kill()
        process.wait(timeout=10)
        for pipe in (process.stdin, process.stdout):
            assert pipe
            pipe.close()


WAITS = "print('ready'); sys.stdin.readline()"


def test_exec_is_in_the_same_room(running: Callable[..., tuple[Path, object]]) -> None:
    """Same namespaces, user, control group, and as little rights as the service itself."""
    code = """
open("/tmp/private", "w").write("mine")
status = open("/proc/self/status").read().splitlines()
"""
    node, _ = running(code + WAITS)
    ask = (
        PRELUDE
        + """
print(open("/tmp/private").read(), os.getuid(), os.environ["HOME"])
kinds = ("Cap", "NoNew", "Seccomp:")
print([line.split()[1] for line in open("/proc/self/status") if line.startswith(kinds)])
print(attempt(lambda: socket.socket(socket.AF_INET)), os.getppid())
print({os.readlink(f"/proc/self/ns/{n}") == os.readlink(f"/proc/2/ns/{n}")
       for n in ("user", "mnt", "pid", "net", "ipc", "uts", "cgroup")})
print(open("/proc/self/cgroup").read() == open("/proc/2/cgroup").read())
sys.exit(9)
"""
    )
    done = command(node, "exec", "hello", "--", PYTHON, "-I", "-c", ask)
    assert done.returncode == 9, done.stderr
    lines = done.stdout.splitlines()
    uid = (node / "var/lib/hello").stat().st_uid
    assert lines[0] == f"mine {uid} /var/lib/hello"
    assert lines[1] == str(["0" * 16] * 5 + ["1", "2"])
    assert lines[2:] == ["EAFNOSUPPORT 0", "{True}", "True"]


def test_exec_passes_signals_both_ways(running: Callable[..., tuple[Path, object]]) -> None:
    """A signal for appb reaches the program; appb ends by the signal that ended the program."""
    node, _ = running(WAITS)
    process = subprocess.Popen(
        argv(node, "exec", "hello", "--", "/bin/sh", "-c", "echo ready; exec sleep 60"),
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=10) == -signal.SIGTERM
    process.stdout.close()


def test_exec_ends_with_the_service(running: Callable[..., tuple[Path, object]]) -> None:
    """Nothing that was put into a service's room outlives it."""
    node, service = running(WAITS)
    process = subprocess.Popen(
        argv(node, "exec", "hello", "--", "/bin/sh", "-c", "echo ready; exec sleep 60"),
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    assert process.stdout.readline() == "ready\n"
    assert isinstance(service, subprocess.Popen)
    service.communicate("\n", timeout=10)
    assert process.wait(timeout=10) == -signal.SIGKILL
    process.stdout.close()
    assert not _groups()


def test_shell_is_the_bundles(running: Callable[..., tuple[Path, object]]) -> None:
    """`shell` reads commands inside the service, with its environment; the status is its own."""
    node, _ = running(WAITS)
    done = command(node, "shell", "hello", stdin="echo $HOME; exit 4\n")
    assert (done.returncode, done.stdout) == (4, "/var/lib/hello\n"), done.stderr


def test_bundle_without_a_shell(node: Path) -> None:
    """It is told as that, and what can be done instead."""
    tree = node / "apps/hello/1.0"
    service: dict[str, object] = {"name": "hello", "argv": ["/bin/cat"]}
    service["entitlements"] = HAS_LIBRARIES
    declare_services(tree, [service])
    process = subprocess.Popen(
        appb(node, "hello"), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdin
    assert process.stdout
    process.stdin.write("ready\n")
    process.stdin.flush()
    assert process.stdout.readline() == "ready\n"
    (tree / "bin/sh").rename(tree / "bin/other")
    try:
        done = command(node, "shell", "hello")
    finally:
        (tree / "bin/other").rename(tree / "bin/sh")
        process.communicate(timeout=10)
    assert done.returncode == 10
    assert "has no shell" in done.stderr


def test_exec_without_a_service_is_not_found(declared: Service) -> None:
    """What does not run cannot be entered; the error says how to run it."""
    done = command(declared(), "exec", "hello", "--", "true")
    assert done.returncode == 10
    assert "appb run hello" in done.stderr


def test_stats_are_those_of_the_service(
    limited: Service, running: Callable[..., tuple[Path, object]]
) -> None:
    """Held, maximum, limit and failures of what the service did; the limit is the declared one."""
    code = """
x = b"x" * (20 << 20)
fds = [os.open("/dev/null", os.O_RDONLY) for _ in range(10)]
pids = []
try:
    while True:
        pid = os.fork()
        if pid == 0:
            sys.stdin.readline(); os._exit(0)
        pids.append(pid)
except BlockingIOError:
    pass
"""
    limits = {"memory_bytes": 100 << 20, "tasks": 4, "open_files": 99, "cpu_percent": 50}
    node, _ = running(code + WAITS, limits=limits)
    done = command(node, "--json", "stats", "hello")
    (service,) = json.loads(done.stdout)["services"]
    assert (service["app"], service["service"], service["version"]) == ("hello", "hello", "1.0")
    found = {each["name"]: each for each in service["resources"]}
    assert 20 << 20 < found["memory_bytes"]["held"] <= found["memory_bytes"]["maximum"]
    assert found["memory_bytes"]["limit"] == 100 << 20
    assert (found["tasks"]["held"], found["tasks"]["limit"]) == (4, 4)
    assert found["tasks"]["failures"] >= 1
    assert found["cpu_seconds"]["limit"] == 0.5
    assert found["cpu_seconds"]["held"] > 0
    assert found["open_files"]["held"] >= 13
    assert found["open_files"]["limit"] == 99
    assert "open files" in command(node, "stats").stdout


@pytest.mark.parametrize("ready", ["exec", "notify"])
def test_readiness_is_passed_on(node: Path, declared: Service, tmp_path: Path, ready: str) -> None:
    """To a supervisor as a line on its descriptor, to systemd as a message; not before its time."""
    code = """
import time
if len(sys.argv) > 1:
    sys.stdin.readline()
    s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    s.sendto(b"READY=1\\nMAINPID=7\\nSTATUS=fine", os.environ["NOTIFY_SOCKET"])
sys.stdin.readline()
"""
    words = ["notify"] if ready == "notify" else []
    declared(argv=[PYTHON, "-I", "-c", PRELUDE + code, *words], ready=ready)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(0.3)
        ready_fd, writer = os.pipe()
        process = subprocess.Popen(
            appb(node, f"--ready-fd={writer}", "hello"),
            stdin=subprocess.PIPE,
            pass_fds=[writer],
            env={**os.environ, "NOTIFY_SOCKET": str(tmp_path / "notify")},
        )
        os.close(writer)
        assert process.stdin
        if ready == "notify":
            with pytest.raises(TimeoutError):
                manager.recv(100)
            process.stdin.write(b"\n")
            process.stdin.flush()
        manager.settimeout(10)
        expected = {"exec": b"READY=1", "notify": b"READY=1\nSTATUS=fine"}
        assert manager.recv(100) == expected[ready]
        assert os.read(ready_fd, 10) == b"\n"
        os.close(ready_fd)
        process.communicate(b"\n", timeout=10)
        assert process.returncode == 0


SERVES = """
assert os.environ["LISTEN_PID"] == str(os.getpid())
names = os.environ["LISTEN_FDNAMES"].split(":")
assert len(names) == int(os.environ["LISTEN_FDS"])
for at, name in enumerate(names):
    s = socket.socket(fileno=3 + at)
    print(name, s.getsockname(), s.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
"""


def _free_port() -> int:
    with socket.socket() as probe_socket:
        probe_socket.bind(("127.0.0.1", 0))
        port: int = probe_socket.getsockname()[1]
        return port


def test_declared_sockets_are_opened(declared: Service) -> None:
    """In their order, listening, though the service itself has no network; a path is the user's."""
    port = _free_port()
    sockets = [
        {"name": "web", "listen": f"127.0.0.1:{port}"},
        {"name": "local", "listen": "/run/hello/web.sock"},
    ]
    node = declared(sockets=sockets)
    expected = [f"web ('127.0.0.1', {port}) 1", "local"]
    lines = probe(node, SERVES).splitlines()
    assert lines[0] == expected[0]
    assert lines[1].startswith("local ")
    status = (node / "run/hello/web.sock").stat()
    assert status.st_uid == (node / "var/lib/hello").stat().st_uid
    assert status.st_mode & 0o777 == 0o666
    # A second start replaces the path that the first one left.
    assert probe(node, SERVES).splitlines()[0] == expected[0]


def test_taken_port_is_a_conflict(declared: Service) -> None:
    """Who starts is told which address another process has."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        address = f"127.0.0.1:{other.getsockname()[1]}"
        done = run(declared(sockets=[{"name": "web", "listen": address}]), "hello")
    assert done.returncode == 1
    assert f"cannot listen on {address}" in done.stderr


def test_command_beside_a_service_leaves_its_sockets(declared: Service) -> None:
    """Who wants none of them is started though the service has them."""
    with socket.socket() as service:
        service.bind(("127.0.0.1", 0))
        service.listen()
        address = f"127.0.0.1:{service.getsockname()[1]}"
        node = declared(sockets=[{"name": "web", "listen": address}])
        assert probe(node, "print(os.environ.get('LISTEN_FDS'))", "--no-sockets") == "None"


def test_sockets_are_passed_at_the_second_start_too(declared: Service) -> None:
    """Nothing is loaded inside that only the first start, which makes directories, had loaded."""
    port = _free_port()
    listening = [{"name": "web", "listen": f"127.0.0.1:{port}"}]
    # Libraries for the shell, but not the Python that other tests put into the tree for probes.
    opened = sorted({"network-out", *HAS_LIBRARIES})
    node = declared(sockets=listening, entitlements=opened)
    for _ in range(2):
        done = run(node, "hello", "--", "/bin/sh", "-c", "echo $LISTEN_FDS $LISTEN_FDNAMES")
        assert done.stdout == "1 web\n", done.stderr


def test_inherited_sockets_are_passed_on(declared: Service) -> None:
    """What systemd or another manager has given to appb is the service's."""
    node = declared()
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        fd = listener.fileno()
        start = (
            f"import os, sys; os.dup2({fd}, 3); os.environ.update(LISTEN_PID=str(os.getpid()), "
            "LISTEN_FDS='1', LISTEN_FDNAMES='given'); os.execv(sys.argv[1], sys.argv[1:])"
        )
        words = appb(node, "hello", "--", PYTHON, "-I", "-c", PRELUDE + SERVES)
        done = subprocess.run(
            [PYTHON, "-I", "-c", start, *words], pass_fds=[3, fd], capture_output=True, text=True
        )
        assert done.stdout.startswith(f"given {listener.getsockname()}"), done.stderr


def test_sockets_come_from_a_holder(declared: Service, tmp_path: Path) -> None:
    """The node's holder is told which service asks, and answers with names and descriptors."""
    with socket.socket(socket.AF_UNIX) as holder, socket.socket() as one, socket.socket() as two:
        holder.bind(str(tmp_path / "holder"))
        holder.listen()
        for each in (one, two):
            each.bind(("127.0.0.1", 0))
            each.listen()
        process = subprocess.Popen(
            appb(
                *(declared(), f"--sockets-from={tmp_path}/holder", "hello"),
                *("--", PYTHON, "-I", "-c", PRELUDE + SERVES),
            ),
            stdout=subprocess.PIPE,
            text=True,
        )
        connection = holder.accept()[0]
        with connection:
            assert connection.recv(100) == b"hello/hello\n"
            socket.send_fds(connection, [b"one:two"], [one.fileno(), two.fileno()])
        output = process.communicate(timeout=10)[0]
        assert [line.split()[0] for line in output.splitlines()] == ["one", "two"]
        assert str(two.getsockname()) in output.splitlines()[1]


def test_service_is_chosen(node: Path) -> None:
    """The one named as the app, else the only one; else all are named in the error."""
    tree = node / "apps/hello/1.0"

    def services(*names: str) -> None:
        found: list[dict[str, object]] = [
            {"name": n, "argv": ["/bin/sh", "-c", f"echo {n}"], "entitlements": HAS_LIBRARIES}
            for n in names
        ]
        declare_services(tree, found)

    services("hello", "worker")
    assert run(node, "hello").stdout == "hello\n"
    assert run(node, "hello/worker").stdout == "worker\n"
    services("worker")
    assert run(node, "hello@1.0").stdout == "worker\n"
    services("api", "worker")
    done = run(node, "hello")
    assert done.returncode == 2
    assert "hello/api, hello/worker" in done.stderr
    assert run(node, "hello/nothing").returncode == 10


def test_settings_have_defaults_until_a_generation_says_otherwise(node: Path) -> None:
    """Texts that name settings get the bundle's own values, or those that were recorded."""
    declare_services(
        node / "apps/hello/1.0",
        [
            {
                "name": "hello",
                "argv": ["/bin/sh", "-c", "echo {{ port }}"],
                "entitlements": HAS_LIBRARIES,
            }
        ],
        settings=[{"name": "port", "type": "port", "default": "8080"}],
    )
    assert run(node, "hello").stdout == "8080\n"
    rendered = node / "apps/.appb/generations/1/.rendered"
    (rendered / "hello/etc").mkdir(parents=True)
    (rendered / "hello/etc/release").write_text("rendered")
    recorded = [
        {"name": "hello", "argv": ["/bin/cat", "/etc/release"], "entitlements": HAS_LIBRARIES}
    ]
    (rendered / "hello.json").write_text(json.dumps({"services": recorded}))
    try:
        assert run(node, "hello").stdout == "rendered"
        assert run(node, "--generation=1", "hello").stdout == "rendered"
    finally:
        for path in sorted(rendered.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
        rendered.rmdir()


def test_killed_starter_leaves_no_obstacle(
    limited: Service, running: Callable[..., tuple[Path, subprocess.Popen[str]]]
) -> None:
    """A control group that a killed start has left behind is used again."""
    node, process = running(WAITS)
    inside = descendants(process.pid)
    process.kill()
    process.wait(timeout=10)
    deadline = time.monotonic() + 10
    while any(Path(f"/proc/{pid}").exists() for pid in inside) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert _groups()
    assert run(node, "hello").returncode == 0
    assert not _groups()


@pytest.mark.skipif(platform.machine() != "x86_64", reason="32-bit calls are the x86's")
def test_foreign_calls_end_the_process(declared: Service) -> None:
    """A 32-bit system call is the end: by its number it could be any other call."""
    code = """
page = mmap.mmap(-1, 4096, prot=7)
page.write(b"\\xb8\\x14\\x00\\x00\\x00\\xcd\\x80\\xc3")
ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(page)))()
"""
    node = declared("jit")
    done = run(node, "hello", "--", PYTHON, "-I", "-c", PRELUDE + code)
    assert done.returncode == -signal.SIGSYS


def test_holder_that_refuses_is_quoted(declared: Service, tmp_path: Path) -> None:
    """What the holder says instead of sockets is in the error, escaped, and nothing is started."""
    with socket.socket(socket.AF_UNIX) as holder:
        holder.bind(str(tmp_path / "holder"))
        holder.listen()
        process = subprocess.Popen(
            appb(declared(), f"--sockets-from={tmp_path}/holder", "hello"),
            stderr=subprocess.PIPE,
            text=True,
        )
        connection = holder.accept()[0]
        with connection:
            connection.recv(100)
            connection.send(b"error: no such service\x1b[2J")
        errors = process.communicate(timeout=10)[1]
    assert process.returncode == 1
    assert "error: no such service\\x1b[2J" in errors


@pytest.mark.parametrize("number", ["99", "x", "-1"])
def test_ready_fd_must_be_open(declared: Service, number: str) -> None:
    """A mistake is told before anything is started, not when the service is ready."""
    done = run(declared(), f"--ready-fd={number}", "hello")
    assert done.returncode == 2
    assert "open descriptor" in done.stderr
