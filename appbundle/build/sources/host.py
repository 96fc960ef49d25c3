"""The source `host`: programs of the machine that builds, with the libraries they need.

Needs neither network nor privileges, and is not locked: it takes what the host has. For trying
things out, and for bundles whose programs come with the machine.
"""

import re
import shutil
from pathlib import Path
from urllib.parse import quote

import msgspec

from appbundle.build.sources.base import Added, Component, Pin, Site
from appbundle.build.sources.files import place
from appbundle.errors import BuildError
from appbundle.names import escape
from appbundle.system import process

_TIMEOUT_S = 30
_LIBRARY = re.compile(r"(?:=>\s+)?(/\S+)\s+\(0x[0-9a-f]+\)")


class Host(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Copy programs and every library that the dynamic linker loads for them.

    Args:
        programs: Absolute paths; they are the same in the tree. Links are followed.
    """

    programs: tuple[str, ...]

    def add(self, site: Site, pins: tuple[Pin, ...] | None) -> Added:
        """Copy them."""
        site.report.step(f"copying {len(self.programs)} programs of this host")
        missing = tuple(p for p in self.programs if not p.startswith("/") or not Path(p).is_file())
        if missing:
            raise BuildError("this host lacks programs that the recipe copies", issues=missing)
        paths = dict.fromkeys(self.programs)
        for program in self.programs:
            paths.update(dict.fromkeys(_libraries(program, site.environment)))
        return Added(components=tuple(_copy(path, site.tree) for path in paths))


def _libraries(program: str, environment: dict[str, str]) -> list[str]:
    """What the dynamic linker would load for a program, and itself; empty for static ones."""
    if shutil.which("ldd", path=environment.get("PATH")) is None:
        raise BuildError("there is no ldd to ask for libraries", hint="it is in libc-bin")
    variables = process.basic_environment(environment, LC_ALL="C")
    try:
        listed = process.run(["ldd", program], environment=variables, timeout_s=_TIMEOUT_S)
    except process.ProgramError as e:
        if "not a dynamic executable" in e.stderr:
            return []
        raise
    text = listed.stdout.decode(errors="replace")
    if "not found" in text:
        raise BuildError(f"libraries of {escape(program)} are missing", issues=(text.strip(),))
    return _LIBRARY.findall(text)


def _copy(path: str, tree: Path) -> Component:
    digest = place(Path(path).resolve(), tree, path)
    assert digest is not None
    return Component(
        name=path.lstrip("/"),
        version="",
        sha256=digest,
        purl=f"pkg:generic/{quote(Path(path).name)}?checksum=sha256:{digest}",
    )
