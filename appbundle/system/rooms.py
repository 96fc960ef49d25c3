"""Working directories: each belongs to a living process; what a dead one has left is removed."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from appbundle.system import files


@contextmanager
def room(parent: Path) -> Iterator[Path]:
    """Give a new, empty directory that is gone afterwards.

    Rooms of processes that were killed are removed first. A room is locked by flock(2) while its
    process lives, so nobody else's clock or process number matters.

    Args:
        parent: Holds rooms and nothing else; made if missing.
    """
    parent.mkdir(parents=True, exist_ok=True)
    with files.directory(parent) as parent_fd:
        # Nobody may sweep between the making of a room and its lock.
        fcntl.flock(parent_fd, fcntl.LOCK_EX)
        _sweep(parent)
        path = parent / files.random_name()
        files.make_directory(path)
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        fcntl.flock(fd, fcntl.LOCK_EX)
    try:
        yield path
    finally:
        files.remove_tree(path)
        os.close(fd)


def _sweep(parent: Path) -> None:
    for entry in list(os.scandir(parent)):
        if not entry.is_dir(follow_symlinks=False):
            continue
        try:
            with files.directory(entry.path) as fd:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                files.remove_tree(entry.path)
        except (BlockingIOError, FileNotFoundError):
            continue  # In use, or its owner was quicker.
