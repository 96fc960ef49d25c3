"""What a node takes: `node_figures.py APPS PID`; all its services descend from PID."""

import os
import sys
from pathlib import Path

from processes import memory_of_confined


def main(apps: Path, first: int) -> None:
    """Print what each app has on disk, what all have, and what services have of memory."""
    alone, seen = 0, dict[int, int]()
    found = (path for path in apps.iterdir() if path.name[0] != "." and not path.is_symlink())
    for app in sorted(found):
        own = dict(_files(app))
        alone += sum(own.values())
        seen |= own
        print(f"{sum(own.values()) / 1e6:8.0f} MB  {app.name}")
    print(f"{alone / 1e6:8.0f} MB  all, each app alone")
    print(f"{sum(seen.values()) / 1e6:8.0f} MB  all, as they are")
    memory = float(str(memory_of_confined(first)["services_bytes"]))
    print(f"{memory / 1e6:8.0f} MB  of memory for all services; shared pages count once")


def _files(tree: Path) -> list[tuple[int, int]]:
    """Inodes, and what they have on disk, in bytes."""
    places = (os.path.join(here, name) for here, _, names in os.walk(tree) for name in names)
    return [(found.st_ino, found.st_blocks * 512) for found in map(os.lstat, places)]


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
