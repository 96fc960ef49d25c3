"""A tree as the running service will see it: as its root, with mounts and base."""

import glob
import os
import stat
from dataclasses import dataclass, field
from enum import Enum

MAX_HOPS = 40
BASE_DIRECTORIES = ("usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32")
"""What a bundle that declares a base gets from the host."""


class Where(Enum):
    """What can be said of a path that is no entry of the tree."""

    NOWHERE = "nowhere"
    MOUNTED = "below a mount point, so only known at run time"


@dataclass(slots=True)
class View:
    """Looks paths up without ever leaving the tree, as in a chroot.

    Args:
        tree: The directory.
        mount_points: Relative paths; what lies below them is not known before run time.
        base: The root of a base system that is asked for what the tree lacks, or empty.
    """

    tree: str
    mount_points: frozenset[str] = frozenset()
    base: str = ""
    _modes: dict[str, tuple[int, str] | None] = field(default_factory=dict)

    def find(self, path: str, *, start: str = "") -> str | Where:
        """Follow a path through all links.

        Args:
            path: Absolute inside the bundle, or relative to `start`.
            start: A directory inside the bundle, without a leading slash.

        Returns:
            Where it is on this machine, or why that cannot be said.
        """
        here = [] if path.startswith("/") else [part for part in start.split("/") if part]
        found = self._follow(self.tree, here, path)
        first = path.strip("/").split("/")[0] if path.startswith("/") else ""
        if found is Where.NOWHERE and self.base and first in BASE_DIRECTORIES:
            return self._follow(self.base.rstrip("/"), [], path)
        return found

    def _follow(self, root: str, here: list[str], path: str) -> str | Where:
        todo = path.split("/")[::-1]
        hops = 0
        while todo:
            part = todo.pop()
            if part in ("", "."):
                continue
            if part == "..":
                del here[-1:]
                continue
            relative = "/".join((*here, part))
            entry = self._look(f"{root}/{relative}")
            if entry is None:
                return self._absent("/".join(here), relative)
            mode, target = entry
            if not stat.S_ISLNK(mode):
                here.append(part)
                continue
            hops += 1
            if hops > MAX_HOPS:
                return Where.NOWHERE
            if target.startswith("/"):
                here = []
            todo += target.split("/")[::-1]
        return "/".join((root, *here))

    def _absent(self, directory: str, path: str) -> Where:
        points = self.mount_points
        mounted = path in points or any(
            directory == point or directory.startswith(point + "/") for point in points
        )
        return Where.MOUNTED if mounted else Where.NOWHERE

    def _look(self, path: str) -> tuple[int, str] | None:
        if path not in self._modes:
            try:
                mode = os.lstat(path).st_mode
                self._modes[path] = (mode, os.readlink(path) if stat.S_ISLNK(mode) else "")
            except (FileNotFoundError, NotADirectoryError, ValueError):
                self._modes[path] = None
        return self._modes[path]

    def is_file(self, path: str, *, executable: bool = False) -> bool:
        """Whether a path leads to a regular file (that somebody may execute)."""
        found = self.find(path)
        if isinstance(found, Where):
            return False
        mode = os.stat(found).st_mode
        return stat.S_ISREG(mode) and (not executable or bool(mode & 0o111))

    def read(self, path: str) -> str:
        """Give a file's text, or an empty one if there is none."""
        found = self.find(path)
        if isinstance(found, Where) or not os.path.isfile(found):
            return ""
        with open(found, encoding="utf-8", errors="replace") as file:
            return file.read()

    def glob(self, pattern: str) -> list[str]:
        """Give the tree's paths that match an absolute pattern."""
        names = glob.glob(pattern.lstrip("/"), root_dir=self.tree)
        return [f"/{name}" for name in names]
