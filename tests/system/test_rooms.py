"""Working directories belong to living processes."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from appbundle.system import rooms


def test_room_is_gone_afterwards(tmp_path: Path) -> None:
    """Whatever ends the work, its directory is removed."""

    def work() -> None:
        with rooms.room(tmp_path / "work") as room:
            (room / "file").write_bytes(b"x")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        work()
    assert os.listdir(tmp_path / "work") == []


def test_room_of_a_killed_process_is_removed_by_the_next(tmp_path: Path) -> None:
    """A room stays while its process lives, and goes with the first that comes after its death."""
    script = (
        "import sys, time; from pathlib import Path; from appbundle.system import rooms\n"
        "with rooms.room(Path(sys.argv[1])) as room:\n"
        "    (room / 'file').touch(); print(room.name, flush=True); time.sleep(600)\n"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert child.stdout is not None
        name = child.stdout.readline().strip()
        with rooms.room(tmp_path) as mine:
            assert set(os.listdir(tmp_path)) == {name, mine.name}
        child.send_signal(signal.SIGKILL)
        child.wait(timeout=60)
        assert os.listdir(tmp_path) == [name]
        with rooms.room(tmp_path) as mine:
            assert os.listdir(tmp_path) == [mine.name]
    finally:
        child.kill()
        child.communicate(timeout=60)
