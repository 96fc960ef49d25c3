"""Putting a whole version in the place of a damaged one."""

from pathlib import Path

from appbundle.system import files, libc


def exchange(good: Path, damaged: Path) -> None:
    """Swap two directories with one rename; the damaged one is then in the stage."""
    libc.rename_exchange(str(good), str(damaged))
    files.fsync_directory(damaged.parent)
