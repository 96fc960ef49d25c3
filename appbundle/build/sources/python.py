"""The source `python`: distributions from a Python package index, pinned by hash.

pip chooses, downloads and installs, inside the tree (see `pip.py`); where a project offers no
wheel, its source is built there with build tools that are pinned as well and do not stay.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any
from urllib.parse import quote, unquote, urlsplit

import msgspec

from appbundle.build.sources import cache
from appbundle.build.sources.base import DIFFERS_HINT, Added, Component, Pin, Report, Site
from appbundle.build.sources.files import hash_file
from appbundle.build.sources.pip import Pip, directory
from appbundle.errors import BuildError
from appbundle.names import escape
from appbundle.system import process

_WHEEL = ".whl"
_ONLY_WHEELS = "--only-binary=:all:"
_MISMATCH = re.compile(
    r"^ +(?P<what>\S+).* from .*:\n +Expected sha256 (?P<locked>\w+)\n +Got +(?P<found>\w+)",
    re.MULTILINE,
)


class Python(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, rename="kebab"):
    """Python distributions with all they require.

    Args:
        requirements: As pip takes them: `nova==34.0.0`, `PyMySQL`.
        build: Requirements for building those that have no wheel: `setuptools`. Without, only
            wheels are taken.
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
        wheels = _build(site, pip, packages)
        site.report.step(f"installing {len(packages)} Python packages")
        _install(pip, wheels, heard=_count("Processing ", len(packages), site.report))
        every = (*packages, *tools)
        return Added(pins=every, components=tuple(_component(pin) for pin in packages))

    def _provide_tools(self, site: Site, pip: Pip, pins: tuple[Pin, ...] | None) -> tuple[Pin, ...]:
        """Put the build tools where only pip sees them."""
        if not self.build:
            return ()
        if pins is None:
            site.report.step(f"asking the package index for {', '.join(self.build)}")
            tools = _resolve(pip, self.build, tool=True, wheels_only=True)
        else:
            tools = tuple(pin for pin in pins if pin.tool)
        _provide(site, pip, tools, tools=False)
        site.report.step(f"installing {len(tools)} build tools")
        into = ["--target", directory("tools")]
        _install(pip, {pin: pin.sha256 for pin in tools}, into)
        return tools

    def _choose(self, site: Site, pip: Pip, pins: tuple[Pin, ...] | None) -> tuple[Pin, ...]:
        if pins is not None:
            return tuple(pin for pin in pins if not pin.tool)
        site.report.step(f"asking the package index for {', '.join(self.requirements)}")
        return _resolve(pip, self.requirements, tool=False, wheels_only=not self.build)


def _resolve(
    pip: Pip, requirements: Sequence[str], *, tool: bool, wheels_only: bool
) -> tuple[Pin, ...]:
    """Let pip choose versions; sorted by name."""
    options = ["--dry-run", "--ignore-installed", "--report", "-"]
    # Isolation would fetch build tools that nobody has pinned.
    options.append(_ONLY_WHEELS if wheels_only else "--no-build-isolation")
    report = pip.run(["install", *options, "--", *requirements], tools=not wheels_only)
    try:
        items = msgspec.json.decode(report, type=dict[str, Any])["install"]
        pins = [_read_pin(item, tool=tool) for item in items]
    except (msgspec.MsgspecError, KeyError, TypeError, ValueError) as e:
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
        options = ["--no-deps", "--dest", directory("out")]
        options.append("--no-build-isolation" if tools else _ONLY_WHEELS)
        heard = _count("Collecting ", len(missing), site.report)
        try:
            pip.run(["download", *options, *_FROM_FILE], tools=tools, heard=heard)
        except process.ProgramError as e:
            _raise_mismatch(e)
            raise
        for path in sorted(pip.shared["out"].iterdir()):
            cache.keep(site.cache, path)
    gone = cache.find_missing(site.cache, pins)
    if gone:
        raise BuildError(
            "Python packages differ from the lock",
            issues=tuple(f"{p.file} {p.sha256}" for p in gone),
        )
    cache.show(site.cache, pins, pip.shared["in"])


def _raise_mismatch(error: process.ProgramError) -> None:
    """Say it like a build if pip complains about hashes."""
    issues = tuple(
        f"{m['what']}: {m['found']}, locked is {m['locked']}"
        for m in _MISMATCH.finditer(error.stderr)
    )
    if issues:
        raise BuildError(
            "Python packages differ from the lock", issues=issues, hint=DIFFERS_HINT
        ) from error


def _count(word: str, total: int, report: Report) -> Callable[[str], None]:
    """Count the lines that begin with a word, as progress."""
    done = 0

    def hear(line: str) -> None:
        nonlocal done
        if line.startswith(word):
            done += 1
            report.advance(min(done, total), total)

    return hear


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


def _install(
    pip: Pip,
    hashes: dict[Pin, str],
    into: Iterable[str] = (),
    heard: Callable[[str], None] | None = None,
) -> None:
    """Install wheels offline; nothing but them, and nothing is compiled yet."""
    _write_requirements(pip, hashes)
    options = ["--no-index", "--find-links", directory("in"), "--no-deps", "--no-compile"]
    kept = ["--ignore-installed", "--no-warn-script-location", *into]
    pip.run(["install", *options, *kept, *_FROM_FILE], network=False, heard=heard)


def _component(pin: Pin) -> Component:
    name = re.sub(r"[-_.]+", "-", pin.name).lower()
    return Component(
        name=pin.name,
        version=pin.version,
        sha256=pin.sha256,
        purl=f"pkg:pypi/{name}@{quote(pin.version)}",
    )
