"""The floor: create a tree's files from memory, in two processes, and nothing else.

    create_files.py pack TREE PACKED      write all contents and the list of them to one file
    create_files.py create PACKED DIR     make the tree; the contents are read through mmap(2)

No decompression, no digest, no pool: what remains is what the kernel takes for the files.
"""

import json
import mmap
import os
import sys

_WORKERS = 2


def pack(tree: str, packed: str) -> None:
    """Write contents, then a JSON list of what there is, then the list's length in 8 bytes."""
    directories, links, files = [], [], []
    with open(packed, "wb") as out:
        for base, inner, names in os.walk(tree):
            inner.sort()
            relative = os.path.relpath(base, tree)
            directories.append(relative)
            for name in sorted(names + [n for n in inner if os.path.islink(f"{base}/{n}")]):
                path = f"{base}/{name}"
                if os.path.islink(path):
                    links.append([relative, name, os.readlink(path)])
                else:
                    start = out.tell()
                    with open(path, "rb") as source:
                        out.write(source.read())
                    mode = os.stat(path).st_mode & 0o777
                    files.append([relative, name, mode, start, out.tell()])
        index = json.dumps([directories, links, files]).encode()
        out.write(index + len(index).to_bytes(8, "little"))


def create(packed: str, target: str) -> None:
    """Make directories and links, then the files in two processes of equal shares of bytes."""
    os.umask(0o022)
    with open(packed, "rb") as source:
        contents = memoryview(mmap.mmap(source.fileno(), 0, prot=mmap.PROT_READ))
    size = int.from_bytes(contents[-8:], "little")
    directories, links, files = json.loads(bytes(contents[-8 - size : -8]))
    for directory in directories:
        os.mkdir(os.path.normpath(f"{target}/{directory}"))
    for directory, name, goal in links:
        os.symlink(goal, f"{target}/{directory}/{name}")
    children = []
    for share in _shares(files):
        child = os.fork()
        if child == 0:
            _write(share, contents, target)
            os._exit(0)
        children.append(child)
    for child in children:
        if os.waitpid(child, 0)[1]:
            raise SystemExit(1)


def _shares(files: list[list[object]]) -> list[list[list[object]]]:
    """Cut the list where half of the cost lies; a file costs about as much as 32 KiB of data."""
    half = sum(int(f[4]) - int(f[3]) + 32768 for f in files) // _WORKERS  # type: ignore[call-overload]
    shares: list[list[list[object]]] = [[]]
    cost = 0
    for file in files:
        if cost > half and len(shares) < _WORKERS:
            shares.append([])
            cost = 0
        shares[-1].append(file)
        cost += int(file[4]) - int(file[3]) + 32768  # type: ignore[call-overload]
    return shares


def _write(files: list[list], contents: memoryview, target: str) -> None:  # type: ignore[type-arg]
    opened, directory = None, -1
    for relative, name, mode, start, end in files:
        if relative != opened:
            if directory >= 0:
                os.close(directory)
            directory = os.open(f"{target}/{relative}", os.O_RDONLY | os.O_DIRECTORY)
            opened = relative
        fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode, dir_fd=directory)
        while start < end:
            start += os.write(fd, contents[start:end])
        os.close(fd)


if __name__ == "__main__":
    {"pack": pack, "create": create}[sys.argv[1]](*sys.argv[2:])
