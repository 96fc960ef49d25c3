"""Control groups of version 2, whose controllers are not to be had where version 1 has them.

A directory with the files of cgroup-v2.rst stands in for the kernel; what the kernel does with what
is written there, tests/runtime shows for the version that it has.
"""

from pathlib import Path

import pytest

from appbundle.system import cgroups


@pytest.fixture
def v2(tmp_path: Path) -> cgroups.Group:
    """A group of version 2."""
    for name, text in {
        "cgroup.controllers": "cpu memory pids\n",
        "cgroup.procs": "7\n9\n",
        "memory.max": "max\n",
        "memory.swap.max": "max\n",
        "memory.current": "4096\n",
        "memory.events": "low 0\nhigh 0\nmax 3\noom 1\noom_kill 1\n",
        "pids.max": "max\n",
        "cpu.max": "max 100000\n",
        "cpu.stat": "usage_usec 2500000\nuser_usec 1\nnr_throttled 4\n",
    }.items():
        (tmp_path / name).write_text(text)
    return cgroups.Group(dict.fromkeys(("memory", "pids", "cpu"), str(tmp_path)))


def test_limits_of_version_2(v2: cgroups.Group, tmp_path: Path) -> None:
    """Memory without swap, tasks, and processor time as a share of a period."""
    assert v2.limit(memory_bytes=1 << 20, tasks=5, cpu_percent=150) == set()
    # Nothing truncates these files: the kernel takes each write for itself.
    assert (tmp_path / "memory.max").read_text().startswith("1048576")
    assert (tmp_path / "memory.swap.max").read_text().startswith("0")
    assert (tmp_path / "pids.max").read_text().startswith("5")
    assert (tmp_path / "cpu.max").read_text().startswith("150000 100000")
    assert cgroups.cpu_limit_percent(str(tmp_path), is_v2=True) == 150


def test_missing_controller_is_told(tmp_path: Path) -> None:
    """A limit that no file takes is not set, and said to be so."""
    (tmp_path / "pids.max").write_text("max\n")
    group = cgroups.Group({"pids": str(tmp_path)})
    assert group.limit(memory_bytes=1, tasks=5, cpu_percent=10) == {"memory", "cpu"}


@pytest.mark.parametrize(
    ("name", "key", "expected"),
    [
        ("memory.current", "", 4096),
        ("memory.max", "", None),
        ("memory.events", "max", 3),
        ("cpu.stat", "usage_usec", 2_500_000),
        ("cpu.stat", "missing", None),
        ("memory.peak", "", None),
    ],
)
def test_figures_of_version_2(v2: cgroups.Group, name: str, key: str, expected: int | None) -> None:
    """`max` is no limit, and a file or key that this kernel lacks is no figure."""
    assert cgroups.read(v2.places[0], name, key) == expected


def test_processes_of_a_group(v2: cgroups.Group) -> None:
    """One directory counts once, however many controllers are in it."""
    assert (v2.processes(), len(v2.places)) == ([7, 9], 1)
