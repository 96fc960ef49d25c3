"""Which libraries a tree's programs need, and whether they are all there. See ld.so(8), elf(5).

Nothing is executed: dynamic sections are read and searched for as the dynamic linker would inside
a root directory that is the tree (and, for a bundle that declares a base, the base's).
"""

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from elftools.elf.elffile import ELFFile

MAGIC = b"\x7fELF"

_MULTIARCH = {
    "EM_X86_64": ("x86_64-linux-gnu", "lib64"),
    "EM_AARCH64": ("aarch64-linux-gnu", "lib64"),
    "EM_ARM": ("arm-linux-gnueabihf", "lib"),
    "EM_386": ("i386-linux-gnu", "lib"),
    "EM_PPC64": ("powerpc64le-linux-gnu", "lib64"),
    "EM_RISCV": ("riscv64-linux-gnu", "lib64"),
    "EM_S390": ("s390x-linux-gnu", "lib64"),
}
_MAX_INCLUDES = 8

Exists = Callable[[str], bool]
"""Whether a path (absolute, as the running service will see it) is a file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dynamic:
    """What an ELF file asks of the dynamic linker.

    Args:
        machine: `EM_X86_64` and so on.
        interpreter: PT_INTERP, or empty.
        needed: DT_NEEDED.
        search: DT_RUNPATH, or DT_RPATH if there is none; not yet expanded.
    """

    machine: str
    interpreter: str = ""
    needed: tuple[str, ...] = ()
    search: tuple[str, ...] = ()


def read_dynamic(path: str | Path) -> Dynamic | None:
    """Read an ELF file's dynamic section.

    Returns:
        None for what is no program or shared library: object files, debug information, damage.
    """
    from elftools.common.exceptions import ELFError
    from elftools.elf.elffile import ELFFile

    with open(path, "rb") as file:
        try:
            elf = ELFFile(file)
            if elf["e_type"] not in ("ET_EXEC", "ET_DYN"):
                return None
            return _read(elf)
        except (ELFError, ValueError, KeyError):
            return None


def _read(elf: "ELFFile") -> Dynamic:
    from elftools.elf.dynamic import DynamicSegment
    from elftools.elf.segments import InterpSegment

    interpreter = ""
    needed: list[str] = []
    search: dict[str, str] = {}
    for segment in elf.iter_segments():
        if isinstance(segment, InterpSegment):
            interpreter = segment.get_interp_name()
        if not isinstance(segment, DynamicSegment):
            continue
        for tag in segment.iter_tags():
            # pyelftools names the attribute that holds the string after the tag.
            kind = str(tag.entry.d_tag)
            if kind == "DT_NEEDED":
                needed.append(getattr(tag, "needed"))  # noqa: B009
            elif kind in ("DT_RPATH", "DT_RUNPATH"):
                search[kind] = getattr(tag, kind.removeprefix("DT_").lower())
    chosen = search.get("DT_RUNPATH", search.get("DT_RPATH", ""))
    return Dynamic(
        machine=str(elf["e_machine"]),
        interpreter=interpreter,
        needed=tuple(needed),
        search=tuple(part for part in chosen.split(":") if part),
    )


def missing(
    path: str, dynamic: Dynamic, *, configured: Iterable[str], exists: Exists
) -> Iterator[str]:
    """Name what the dynamic linker would not find.

    Args:
        path: Of the ELF file, absolute inside the bundle.
        dynamic: What it asks for.
        configured: Directories of ld.so.conf.
        exists: Asked for every place that is looked at.

    Yields:
        The interpreter and each needed library that is nowhere.
    """
    if dynamic.interpreter and not exists(dynamic.interpreter):
        yield dynamic.interpreter
    directories = [
        *(_expand(each, path, dynamic.machine) for each in dynamic.search),
        *configured,
        *default_directories(dynamic.machine),
    ]
    for name in dynamic.needed:
        if "/" in name:
            found = exists(os.path.join(os.path.dirname(path), name))
        else:
            found = any(exists(f"{each}/{name}") for each in directories)
        if not found:
            yield name


def _expand(directory: str, path: str, machine: str) -> str:
    """Replace ld.so's dynamic string tokens."""
    multiarch, library = _MULTIARCH.get(machine, ("", "lib"))
    values = {
        "ORIGIN": os.path.dirname(path),
        "LIB": f"lib/{multiarch}" if multiarch else library,
        "PLATFORM": machine.removeprefix("EM_").lower(),
    }
    for token, value in values.items():
        directory = directory.replace(f"${{{token}}}", value).replace(f"${token}", value)
    return os.path.normpath(directory)


def default_directories(machine: str) -> tuple[str, ...]:
    """Where the linker of Debian and of others looks without being told."""
    multiarch, library = _MULTIARCH.get(machine, ("", "lib"))
    names = [f"lib/{multiarch}"] if multiarch else []
    names += dict.fromkeys((library, "lib"))
    return tuple(f"{prefix}/{name}" for name in names for prefix in ("", "/usr"))


def configured_directories(
    read: Callable[[str], str], glob: Callable[[str], list[str]]
) -> list[str]:
    """List the directories of /etc/ld.so.conf and of what it includes, in order.

    Args:
        read: Gives a file's text, or an empty one if it is not there.
        glob: Gives the paths that match a pattern.
    """
    directories: list[str] = []

    def follow(path: str, depth: int) -> None:
        for line in read(path).splitlines():
            words = line.partition("#")[0].split()
            if not words:
                continue
            if words[0] == "include" and depth < _MAX_INCLUDES:
                for pattern in words[1:]:
                    for each in sorted(glob(os.path.join(os.path.dirname(path), pattern))):
                        follow(each, depth + 1)
            elif words[0].startswith("/"):
                directories.append(words[0].rstrip("/"))

    follow("/etc/ld.so.conf", 0)
    return directories
