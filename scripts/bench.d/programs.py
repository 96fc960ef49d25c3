"""Programs of this machine as contents of a bundle, whole: with libraries, modules, directories."""

import json
import os
import re
from pathlib import Path

from measure import command, output

from bundles import Content

PYTHON = "/usr/bin/python3"
"""Where trees have their interpreter, and a Debian machine has its own."""

_HERE = Path(__file__).parent


def mount_points(name: str) -> dict[str, Content]:
    """Something in each directory, and each file, that a sandbox of an app covers."""
    own = (f"var/{each}/{name}" for each in ("cache", "lib", "log"))
    directories = ("dev", "proc", "run", "sys", "tmp", "usr", "var/tmp", *own)
    files = (f"etc/{each}" for each in ("group", "hosts", "passwd", "resolv.conf"))
    return {f"{each}/.keep": b"" for each in directories} | dict.fromkeys(files, b"")


def with_libraries(*paths: str) -> dict[str, Content]:
    """Programs and shared objects, and all libraries that the dynamic linker loads for them."""
    libraries = re.findall(r"(/\S+) \(", output(command("ldd", *paths)))
    return {each.lstrip("/"): Path(os.path.realpath(each)) for each in (*paths, *libraries)}


def with_python(script: Path, scratch: Path) -> dict[str, Content]:
    """The machine's Python, and of its library what a script imports.

    Args:
        scratch: Where bytecode is put; it must stay until the contents were read.
    """
    find = command(PYTHON, "-I", _HERE / "find_modules.py", script, scratch)
    modules = {path: Path(file) for path, file in json.loads(output(find)).items()}
    objects = [str(file) for file in modules.values() if file.suffix == ".so"]
    return with_libraries(PYTHON, *objects) | modules
