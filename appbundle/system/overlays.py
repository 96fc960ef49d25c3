"""Files shown in a running process's mount namespace, in place of others.

Sources: setns(2), open_tree(2), move_mount(2).

A mount keeps what it was made from. So whoever shall read a new file under an old name, without
being started anew, needs another mount.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path

from appbundle.errors import AppbError
from appbundle.system import libc, mounts, namespaces

_MNT_DETACH = 2


def show(pid: int, files: Sequence[tuple[Path, str]]) -> None:
    """Show files of this node in a process's tree, read-only.

    Args:
        pid: Of the process.
        files: For each where it is, and the path in the tree; what was shown there before goes.

    Raises:
        AppbError: It has ended, or the kernel refuses.
    """
    with contextlib.ExitStack() as opened:

        def keep(fd: int) -> int:
            opened.callback(os.close, fd)
            return fd

        try:
            space = keep(os.open(f"/proc/{pid}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC))
            root = keep(os.open(f"/proc/{pid}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC))
            trees = [
                (keep(mounts.detached(keep(os.open(source, os.O_PATH | os.O_CLOEXEC)))), target)
                for source, target in files
            ]
        except OSError as error:
            raise AppbError(f"cannot show new files to process {pid}: {error.strerror}") from error
        # Nobody leaves a mount namespace, so a child enters it.
        child = os.fork()
        if child == 0:
            status = 1
            with contextlib.suppress(OSError):
                libc.setns(space, namespaces.MOUNT)
                for tree, target in trees:
                    _replace(root, target.strip("/"), tree)
                status = 0
            os._exit(status)
        _, code = os.waitpid(child, 0)
        if code != 0:
            raise AppbError(f"the kernel shows no new files to process {pid}")


def _replace(root_fd: int, path: str, tree_fd: int) -> None:
    parent, _, name = path.rpartition("/")
    here = mounts.open_beneath(root_fd, parent) if parent else os.dup(root_fd)
    os.fchdir(here)
    # There is none if the one before had no such file.
    with contextlib.suppress(OSError):
        libc.umount2(name, _MNT_DETACH)
    mounts.attach(tree_fd, here, name)
    os.close(here)
