"""The filter of system calls, as a program: which calls it lets through."""

import errno
import shutil
import subprocess
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appbundle.bundle import confinement
from appbundle.runtime import filter as filters
from appbundle.runtime.opened import CAPABILITIES, Opened
from appbundle.system import seccomp, syscalls

Verdict = Callable[..., int | None]
ARCHITECTURES = sorted(syscalls.ARCHITECTURES)


def verdicts(machine: str, *entitlements: str) -> Verdict:
    """What a service's filter says to a call by name."""
    column, audit = syscalls.ARCHITECTURES[machine]
    program = filters.compile_filter(Opened(entitlements), column=column, audit=audit)

    def ask(name: str, *arguments: int) -> int | None:
        number = syscalls.SYSTEM_SERVICE[name][column]
        return seccomp.run(program, number=number, arguments=arguments, audit=audit)

    return ask


@pytest.mark.parametrize("machine", ARCHITECTURES)
@pytest.mark.parametrize(
    ("opening", "name", "arguments"),
    [
        ("jit", "mmap", (0, 4096, 7)),
        ("jit", "mprotect", (0, 4096, 5)),
        ("jit", "shmat", (0, 0, 0o100000)),
        ("namespaces", "clone", (0x10000011,)),
        ("namespaces", "unshare", (0x20000,)),
        ("namespaces", "setns", (5, 0)),
        ("nice", "setpriority", ()),
        ("nice", "sched_setaffinity", ()),
        ("capability:chown", "fchown", ()),
        ("listen", "socket", (2, 1, 0)),
        ("network-out", "socket", (10, 1, 0)),
        ("netlink", "socket", (16, 3, 0)),
    ],
)
def test_entitlement_opens_what_is_closed_without_it(
    machine: str, opening: str, name: str, arguments: tuple[int, ...]
) -> None:
    """A call is refused by default, and let through by the one entitlement for it."""
    assert verdicts(machine)(name, *arguments) not in (0, None)
    assert verdicts(machine, opening)(name, *arguments) == 0


@pytest.mark.parametrize("machine", ARCHITECTURES)
@pytest.mark.parametrize(
    ("name", "arguments", "expected"),
    [
        ("mmap", (0, 4096, 3), 0),
        ("mmap", (0, 4096, 5), 0),
        ("clone", (0x3D0F00,), 0),
        ("clone3", (), errno.ENOSYS),
        ("openat2", (), errno.ENOSYS),
        ("io_uring_setup", (), errno.EPERM),
        ("socket", (1, 1, 0), 0),
        ("socket", (17, 3, 0), errno.EAFNOSUPPORT),
        ("personality", (0,), 0),
        ("personality", (0x40000,), errno.EPERM),
        ("fchmodat", (0, 0, 0o4755), errno.EPERM),
        ("fchmodat", (0, 0, 0o755), 0),
        ("fchmodat2", (0, 0, 0o2755), errno.EPERM),
        ("mkdirat", (0, 0, 0o2755), errno.EPERM),
        ("openat", (0, 0, 0o101, 0o4755), errno.EPERM),
        ("openat", (0, 0, 0o20200001, 0o4755), errno.EPERM),
        ("openat", (0, 0, 0, 0o4755), 0),
        ("ioctl", (0, 0x5412), errno.EPERM),
        ("ioctl", (0, 0x5401), 0),
        ("setresuid", (0, 0, 0), errno.EPERM),
    ],
)
def test_arguments_decide(
    machine: str, name: str, arguments: tuple[int, ...], expected: int
) -> None:
    """Of calls that are needed, only what would open the confinement is refused."""
    assert verdicts(machine)(name, *arguments) == expected


@pytest.mark.parametrize(("opening", "refused"), [("listen", "connect"), ("network-out", "listen")])
def test_one_direction_does_not_open_the_other(opening: str, refused: str) -> None:
    """Who may only listen cannot connect, and the other way round."""
    ask = verdicts("x86_64", opening)
    assert ask(refused) == errno.EPERM
    assert ask({"connect": "listen", "listen": "connect"}[refused]) == 0


@pytest.mark.parametrize("high", [1 << 32, 0xFFFFFFFF << 32])
def test_high_halves_of_arguments_hide_nothing(high: int) -> None:
    """The kernel looks at 32 bits of these arguments, and so does the filter."""
    ask = verdicts("x86_64")
    assert ask("mmap", 0, 4096, 7 | high) == errno.EPERM
    assert ask("socket", 2 | high) == errno.EAFNOSUPPORT
    assert ask("personality", 0x40000 | high) == errno.EPERM


def test_other_architectures_end_the_process() -> None:
    """32-bit calls mean other things by the same numbers; x32 calls do not exist."""
    column, audit = syscalls.ARCHITECTURES["x86_64"]
    program = filters.compile_filter(Opened(()), column=column, audit=audit)
    assert seccomp.run(program, number=1, audit=0x40000003) is None
    assert seccomp.run(program, number=0x40000001, audit=audit) == errno.ENOSYS


def test_calls_of_the_future_are_missing_not_forbidden() -> None:
    """Libraries fall back on older calls after ENOSYS, and give up after EPERM."""
    column, audit = syscalls.ARCHITECTURES["x86_64"]
    program = filters.compile_filter(Opened(()), column=column, audit=audit)
    assert seccomp.run(program, number=syscalls.LAST + 50, audit=audit) == errno.ENOSYS


@given(
    st.dictionaries(st.integers(0, 700), st.integers(1, 5)),
    st.integers(1, 700),
    st.integers(0, 800),
)
def test_search_finds_each_number(table: dict[int, int], limit: int, number: int) -> None:
    """The compiled search agrees with a look into the table, for any table."""
    pieces = {key: seccomp.refuse(value) for key, value in table.items()}
    program = seccomp.compile_filter(
        pieces, other=seccomp.ALLOW, beyond=(limit, seccomp.refuse(99)), audit=7
    )
    expected = table.get(number, 99 if number >= limit else 0)
    assert seccomp.run(program, number=number, audit=7) == expected


def test_long_programs_jump_far() -> None:
    """A half of the search that is longer than a short jump is still jumped over."""
    piece = tuple(seccomp.if_among(0, range(200), seccomp.ALLOW, seccomp.refuse(5)))
    pieces = {number * 2: piece for number in range(8)}
    program = seccomp.compile_filter(
        pieces, other=seccomp.refuse(1), beyond=(900, seccomp.refuse(2)), audit=7
    )
    answers = [
        seccomp.run(program, number=n, arguments=(a,), audit=7)
        for n, a in ((14, 199), (14, 200), (13, 0), (900, 0))
    ]
    assert answers == [0, 5, 1, 2]


def test_sets_are_those_of_the_installed_systemd() -> None:
    """The table has every call of @system-service that either architecture has, and no other."""
    if not shutil.which("systemd-analyze"):
        pytest.skip("systemd is not installed")
    version = subprocess.run(["systemd-analyze", "--version"], capture_output=True, text=True)
    if version.stdout.split()[1] != "252":
        pytest.skip("the table is that of systemd 252")
    said = subprocess.run(["systemd-analyze", "syscall-filter"], capture_output=True, text=True)
    sets: dict[str, list[str]] = {}
    for line in said.stdout.splitlines():
        if line.startswith("@"):
            sets[line] = words = []
        elif line.startswith("    ") and not line.strip().startswith("#"):
            words.append(line.strip())

    def members(name: str) -> set[str]:
        inner = [members(each) if each[0] == "@" else {each} for each in sets[name]]
        return set().union(*inner)

    ours = set(syscalls.SYSTEM_SERVICE)
    assert ours <= members("@system-service")
    assert members("@privileged") & ours == syscalls.PRIVILEGED
    assert members("@resources") & ours == syscalls.RESOURCES
    # What is left is of 32-bit machines and of architectures that we have no filter for.
    rest = members("@system-service") - ours
    assert not [n for n in rest if not n.endswith(("32", "64")) and n not in _OTHER_MACHINES]


_OTHER_MACHINES = (
    *("_llseek", "_newselect", "cacheflush", "fstatat64", "ipc", "lstat64", "mmap2"),
    *("nice", "oldfstat", "oldlstat", "oldolduname", "oldstat", "olduname", "readdir"),
    *("recv", "riscv_flush_icache", "riscv_hwprobe", "send", "set_tls", "sigaction"),
    *("signal", "sigpending", "sigprocmask", "sigreturn", "sigsuspend", "socketcall"),
    *("swapcontext", "sync_file_range2", "ugetrlimit", "waitpid"),
)

_ENTITLEMENTS = st.sampled_from(
    [k for k, kind in confinement.KINDS.items() if kind.argument is None]
    + [f"capability:{name}" for name in confinement.CAPABILITIES]
    + ["device:/dev/fuse", "read:/a", "write:/b"]
)


@given(st.lists(_ENTITLEMENTS, unique=True))
def test_entitlements_are_read_as_by_the_units(texts: list[str]) -> None:
    """The quick reading and the one that writes units find the same capabilities and families."""
    opened = [confinement.parse(each) for each in texts]
    quick = Opened(tuple(texts))
    assert [CAPABILITIES[n] for n in quick.capabilities] == sorted(
        confinement.capabilities(opened), key=CAPABILITIES.index
    )
    assert list(quick.families) == confinement.families(opened)
    assert confinement.CAPABILITIES == CAPABILITIES
