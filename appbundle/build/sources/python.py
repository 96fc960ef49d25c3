"""The source `python`: distributions from a Python package index, pinned by hash.

pip chooses, downloads and installs, inside the tree (see `pip.py`); where a project offers no
wheel, its source is built there with build tools that are pinned as well and do not stay.
"""

import re
from collections.abc import Iterable, Sequence
from typing import Any
from urllib.parse import quote, unquote, urlsplit

import msgspec

from appbundle.build.sources import cache
from appbundle.build.sources.base import Added, Component, Pin, Site
from appbundle.build.sources.files import hash_file
from appbundle.build.sources.pip import Pip, directory
from appbundle.errors import BuildError
from appbundle.names import escape

_WHEEL = ".whl"


class Python(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, rename="kebab"):
    """Python distributions with all they require.

    Args:
        requirements: As pip takes them: `nova==34.0.0`, `PyMySQL`.
        build: Requirements for building those that have no wheel: `setuptools`.
        interpreter: Absolute path in the tree; an earlier source brings it.
    """

    requirements: tuple[str, ...]
    build: tuple[str, ...] = ()
    interpreter: str = "/usr/bin/python3"

    def add(self, site: Site, pins: tuple[Pin, ...] | None) -> Added:
        """Install the distributions."""
        if not (site.tree / self.interpreter.lstrip("/")).exists():
            raise BuildError(
                f"the tree has no {escape(self.interpreter)} to install Python packages with",
                hint="a source that brings it must stand before the source python",
            )
        pip = Pip(site, self.interpreter)
        tools = self._provide_tools(site, pip, pins)
        packages = self._choose(site, pip, pins)
        _provide(site, pip, packages, tools=bool(tools))
        site.report.step(f"installing {len(packages)} Python packages")
        _install(site, pip, _build(site, pip, packages))
        every = (*packages, *tools)
        return Added(pins=every, components=tuple(_component(pin) for pin in packages))

    def _provide_tools(self, site: Site, pip: Pip, pins: tuple[Pin, ...] | None) -> tuple[Pin, ...]:
        """Put the build tools where only pip sees them."""
        if not self.build:
            return ()
        if pins is None:
            tools = _resolve(pip, self.build, tool=True)
        else:
            tools = tuple(pin for pin in pins if pin.tool)
        _provide(site, pip, tools, tools=False)
        into = ["--target", directory("tools")]
        _install(site, pip, {pin: pin.sha256 for pin in tools}, into)
        return tools

    def _choose(self, site: Site, pip: Pip, pins: tuple[Pin, ...] | None) -> tuple[Pin, ...]:
        if pins is not None:
            return tuple(pin for pin in pins if not pin.tool)
        site.report.step(f"asking the package index for {', '.join(self.requirements)}")
        return _resolve(pip, self.requirements, tool=False, isolated=not self.build)


def _resolve(
    pip: Pip, requirements: Sequence[str], *, tool: bool, isolated: bool = True
) -> tuple[Pin, ...]:
    """Let pip choose versions; sorted by name."""
    options = ["--dry-run", "--ignore-installed", "--report", "-"]
    if not isolated:
        options.append("--no-build-isolation")
    report = pip.run(["install", *options, *requirements], tools=not isolated)
    try:
        items = msgspec.json.decode(report, type=dict[str, Any])["install"]
        pins = [_read_pin(item, tool=tool) for item in items]
    except (msgspec.MsgspecError, KeyError, TypeError) as e:
        raise BuildError("pip's installation report is not as expected", hint=repr(e)) from e
    return tuple(sorted(pins, key=lambda pin: (pin.name.lower(), pin.version)))


def _read_pin(item: dict[str, Any], *, tool: bool) -> Pin:
    download = item["download_info"]
    if "archive_info" not in download:
        raise BuildError(
            f"{escape(download['url'])} is not an archive with a hash",
            hint="only wheels and source archives can be locked",
        )
    return Pin(
        name=item["metadata"]["name"],
        version=item["metadata"]["version"],
        file=unquote(urlsplit(download["url"]).path.rsplit("/", 1)[1]),
        sha256=download["archive_info"]["hashes"]["sha256"],
        tool=tool,
    )


def _provide(site: Site, pip: Pip, pins: tuple[Pin, ...], *, tools: bool) -> None:
    """Bring pinned files into the cache, and show all of them to pip."""
    missing = cache.find_missing(site.cache, pins)
    if missing:
        site.report.step(f"downloading {len(missing)} Python packages")
        _write_requirements(pip, {pin: pin.sha256 for pin in missing})
        isolation = ["--no-build-isolation"] if tools else []
        into = ["--no-deps", "--dest", directory("out"), *isolation]
        pip.run(["download", *into, *_FROM_FILE], tools=tools)
        for path in sorted(pip.shared["out"].iterdir()):
            cache.keep(site.cache, path)
    gone = cache.find_missing(site.cache, pins)
    if gone:
        raise BuildError(
            "packages did not come as locked", issues=tuple(f"{p.file} {p.sha256}" for p in gone)
        )
    cache.show(site.cache, pins, pip.shared["in"])


_FROM_FILE = ("--require-hashes", "--requirement", "/appb/in/requirements.txt")


def _write_requirements(pip: Pip, hashes: dict[Pin, str]) -> None:
    lines = [f"{pin.name}=={pin.version} --hash=sha256:{h}\n" for pin, h in hashes.items()]
    pip.shared["in"].mkdir(exist_ok=True)
    (pip.shared["in"] / "requirements.txt").write_text("".join(lines), encoding="utf-8")


def _build(site: Site, pip: Pip, pins: tuple[Pin, ...]) -> dict[Pin, str]:
    """Make wheels of the sources among the pins.

    Returns:
        Each pin with the digest of the wheel to install.
    """
    wheels = {pin: pin.sha256 for pin in pins}
    for pin in pins:
        if pin.file.endswith(_WHEEL):
            continue
        site.report.step(f"building {pin.file}")
        options = ["--no-deps", "--no-index", "--no-build-isolation", "--wheel-dir"]
        source = f"{directory('in')}/{pin.file}"
        pip.run(["wheel", *options, directory("out"), source], tools=True, network=False)
        (built,) = pip.shared["out"].iterdir()
        wheels[pin] = hash_file(built)
        # Its source must not be chosen instead.
        (pip.shared["in"] / pin.file).unlink()
        built.rename(pip.shared["in"] / built.name)
    return wheels


def _install(site: Site, pip: Pip, hashes: dict[Pin, str], into: Iterable[str] = ()) -> None:
    """Install wheels offline; nothing but them, and nothing is compiled yet."""
    _write_requirements(pip, hashes)
    options = ["--no-index", "--find-links", directory("in"), "--no-deps", "--no-compile"]
    kept = ["--ignore-installed", "--no-warn-script-location", *into]
    pip.run(["install", *options, *kept, *_FROM_FILE], network=False)


def _component(pin: Pin) -> Component:
    name = re.sub(r"[-_.]+", "-", pin.name).lower()
    return Component(
        name=pin.name,
        version=pin.version,
        kind="pypi",
        sha256=pin.sha256,
        purl=f"pkg:pypi/{name}@{quote(pin.version)}",
    )
