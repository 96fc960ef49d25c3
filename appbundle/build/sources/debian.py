"""The source `debian`: packages with their dependencies, extracted without their scripts.

mmdebstrap asks the host's own apt sources, with the host's keys, so nothing about mirrors or
trust is repeated here. It only decides and downloads; extracting is done below, the same way
whether the packages have just come or were in the cache.
"""

import os
import re
import shlex
import shutil
import stat
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Literal
from urllib.parse import quote, unquote

import msgspec

from appbundle.build.inside import resolve
from appbundle.build.sources import cache
from appbundle.build.sources.archives import find_archives
from appbundle.build.sources.base import DIFFERS_HINT, Added, Component, Pin, Report, Site
from appbundle.errors import BuildError
from appbundle.names import escape
from appbundle.system import process

_DOWNLOAD_TIMEOUT_S = 1800
_EXTRACT_TIMEOUT_S = 300
_GONE = (
    "was not found",
    "Unable to locate package",
    "has no installation candidate",
    "unmet dependencies",
)
"""What apt says of versions that an archive no longer has."""
_APT = Path("/etc/apt")
_MERGED = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")


class Debian(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, rename="kebab"):
    """Packages of one Debian suite.

    Args:
        suite: By its code name: `bookworm`.
        packages: By name; what they depend on comes with them, what they recommend does not.
        moved_on: What to do when the archive no longer has the locked versions, nor the cache:
            `refuse`, or take the `newer` ones and say so. The footprint then only tells what
            differs, since newer packages may well have other files.
        without: Patterns (fnmatch) of packages that do not come, although others depend on them:
            what only scripts of packages need, which are not run.
    """

    suite: str
    packages: tuple[str, ...]
    moved_on: Literal["refuse", "newer"] = "refuse"
    without: tuple[str, ...] = ()

    def add(self, site: Site, pins: tuple[Pin, ...] | None) -> Added:
        """Extract the packages."""
        locked, pins = pins, self._decide(site) if pins is None else self._fetch(site, pins)
        site.report.step(f"extracting {len(pins)} Debian packages")
        _extract(site, pins)
        _link_merged(site.tree)
        return Added(
            pins=pins,
            components=tuple(_component(pin) for pin in pins),
            moved_on=locked is not None and pins != locked,
        )

    def _decide(self, site: Site) -> tuple[Pin, ...]:
        """Take the newest versions that the host's archives have."""
        site.report.step(f"asking the archives of {self.suite} for {len(self.packages)} packages")
        found = _download(site, self.suite, self.packages)
        return tuple(pin for pin in found if not self._leaves_out(pin.name))

    def _leaves_out(self, name: str) -> bool:
        return any(fnmatchcase(name, pattern) for pattern in self.without)

    def _fetch(self, site: Site, pins: tuple[Pin, ...]) -> tuple[Pin, ...]:
        """Bring the locked versions into the cache."""
        missing = cache.find_missing(site.cache, pins)
        if not missing:
            return pins
        site.report.step(f"downloading {len(missing)} Debian packages")
        try:
            got = _download(site, self.suite, [f"{pin.name}={pin.version}" for pin in missing])
        except process.ProgramError as e:
            if not any(words in e.stderr for words in _GONE):
                raise
            return self._move_on(site, pins, e)
        _check(missing, got)
        return pins

    def _move_on(
        self, site: Site, pins: tuple[Pin, ...], error: process.ProgramError
    ) -> tuple[Pin, ...]:
        """Debian keeps only the newest versions: the locked ones are gone."""
        if self.moved_on == "refuse":
            raise BuildError(
                f"the archives of {self.suite} no longer have all locked versions",
                issues=_list_gone(error.stderr),
                hint="--update-lock takes the newer ones",
            ) from error
        newer = self._decide(site)
        for old, new in _differences(pins, newer):
            site.report.note(f"newer than the lock: {new} instead of {old}")
        return newer


def _list_gone(stderr: str) -> tuple[str, ...]:
    lines = (line.strip().removeprefix("E: ") for line in stderr.splitlines())
    return tuple(line for line in lines if any(words in line for words in _GONE))


def _differences(old: tuple[Pin, ...], new: tuple[Pin, ...]) -> list[tuple[str, str]]:
    before = {pin.name: pin.version for pin in old}
    after = {pin.name: pin.version for pin in new}
    return [
        (f"{name} {before.get(name, '(none)')}", f"{name} {after.get(name, '(none)')}")
        for name in sorted({*before, *after})
        if before.get(name) != after.get(name)
    ]


def _check(pins: Sequence[Pin], got: Sequence[Pin]) -> None:
    """Whatever came must be what is locked, byte for byte, and all of it."""
    expected = {(pin.name, pin.version): pin.sha256 for pin in pins}
    found = {(pin.name, pin.version): pin.sha256 for pin in got}
    issues = [
        f"{name} {version}: {found.get((name, version), 'did not come')}, locked is {digest}"
        for (name, version), digest in expected.items()
        if found.get((name, version)) != digest
    ]
    if issues:
        raise BuildError(
            "Debian packages differ from the lock", issues=tuple(issues), hint=DIFFERS_HINT
        )


# Asking and downloading ---------------------------------------------------------------------------


def _download(site: Site, suite: str, packages: Sequence[str]) -> tuple[Pin, ...]:
    """Let apt choose and download packages, and bring them into the cache."""
    directory = site.scratch / "debs"
    # In its unshare mode mmdebstrap is someone else: it hands the files over through a hook.
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir()
    archives = _write_archives(site, suite)
    argv = [
        "mmdebstrap",
        "--verbose",
        "--variant=extract",
        "--format=null",
        "--skip=extract",
        "--include=" + ",".join(packages),
        f"--extract-hook=copy-out /var/cache/apt/archives {shlex.quote(str(directory))}",
        suite,
        "/dev/null",
        *map(str, archives),
    ]
    process.run(
        argv,
        environment=process.basic_environment(site.environment, **_proxies(site.environment)),
        timeout_s=_DOWNLOAD_TIMEOUT_S,
        directory=site.scratch,
        heard=_Apt(site.report).hear,
    )
    found = sorted(directory.rglob("*.deb"))
    if not found:
        raise BuildError(f"no package of {escape(suite)} was downloaded")
    return tuple(_keep(site, path) for path in found)


class _Apt:
    """Understands what apt says while it downloads."""

    _TOTAL = re.compile(r"\d+ upgraded, (\d+) newly installed")

    def __init__(self, report: Report) -> None:
        self._report = report
        self._done, self._total = 0, 0

    def hear(self, line: str) -> None:
        """Count the packages that have come; the lists before them are not counted."""
        if found := self._TOTAL.match(line):
            self._total = int(found[1])
        elif self._total and line.startswith("Get:"):
            self._done += 1
            self._report.advance(min(self._done, self._total), self._total)


def _write_archives(site: Site, suite: str) -> list[Path]:
    archives = find_archives(_APT, suite)
    if not archives:
        raise BuildError(
            f"this host's apt sources do not name the suite {escape(suite)}",
            hint=f"add an entry of {suite} below {_APT}, or build on a host that has one",
        )
    paths = []
    for ending, text in archives.items():
        path = site.scratch / f"archives{ending}"
        # From `file:` apt takes packages where they lie, and nothing would come into the cache.
        path.write_text(re.sub(r"\bfile:(?=/)", "copy:", text), encoding="utf-8")
        paths.append(path)
    return paths


def _proxies(environment: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if name.lower().endswith("_proxy")}


def _keep(site: Site, path: Path) -> Pin:
    # NAME_VERSION_ARCHITECTURE.deb with %3a for the colon of an epoch: apt's own naming.
    name, version, _ = path.name.split("_", 2)
    digest = cache.keep(site.cache, path)
    return Pin(name=name, version=unquote(version), file=path.name, sha256=digest)


# Extracting ---------------------------------------------------------------------------------------


def _extract(site: Site, pins: tuple[Pin, ...]) -> None:
    """Unpack on all processors; packages are put into the tree in the order of the pins."""

    def unpack(at: int) -> Path:
        parts = site.scratch / f"parts-{at}"
        _unpack(site, pins[at], parts)
        return parts

    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        for done, parts in enumerate(pool.map(unpack, range(len(pins))), 1):
            move_merged(parts, site.tree)
            shutil.rmtree(parts)
            site.report.advance(done, len(pins))


def _unpack(site: Site, pin: Pin, parts: Path) -> None:
    found = cache.find(site.cache, pin)
    if found is None:
        raise BuildError(f"{escape(pin.file)} is not in the cache any more")
    parts.mkdir()
    process.run(
        ["dpkg-deb", "--extract", str(found), str(parts)],
        environment=process.basic_environment(site.environment),
        timeout_s=_EXTRACT_TIMEOUT_S,
    )


def move_merged(parts: Path, tree: Path) -> None:
    """Move a package's files into a tree with merged `/usr`: `/bin/x` becomes `/usr/bin/x`.

    Raises:
        BuildError: A package has a file where another has a directory or link.
    """
    for here, directories, names in os.walk(parts):
        relative = os.path.relpath(here, parts)
        into = resolve(tree, _merge(relative))
        into.mkdir(parents=True, exist_ok=True)
        links = [name for name in directories if os.path.islink(os.path.join(here, name))]
        for name in [*names, *links]:
            _move(Path(here) / name, into / name, parts)


def _merge(path: str) -> str:
    first = path.split("/", 1)[0]
    if path == ".":
        return ""
    return f"usr/{path}" if first in _MERGED else path


def _move(source: Path, target: Path, parts: Path) -> None:
    path = source.relative_to(parts)
    mode = source.lstat().st_mode
    if target.is_dir() and not target.is_symlink():
        raise BuildError(f"{escape(str(path))} is a file in one package, a directory in another")
    if not stat.S_ISREG(mode) and not stat.S_ISLNK(mode):
        raise BuildError(f"{escape(str(path))} is neither a file, a directory nor a link")
    if stat.S_ISREG(mode):
        # No setuid: a bundle's services can't gain privileges, and its format has no such mode.
        # Who else may write stays, for the checks to see.
        source.chmod((0o755 if mode & 0o111 else 0o644) | mode & 0o022)
    os.replace(source, target)


def _link_merged(tree: Path) -> None:
    for name in _MERGED:
        if (tree / "usr" / name).is_dir() and not (tree / name).exists():
            (tree / name).symlink_to(f"usr/{name}")


def _component(pin: Pin) -> Component:
    architecture = pin.file.rsplit("_", 1)[1].removesuffix(".deb")
    return Component(
        name=pin.name,
        version=pin.version,
        sha256=pin.sha256,
        purl=f"pkg:deb/debian/{quote(pin.name)}@{quote(pin.version)}?arch={architecture}",
    )
