"""The command `scripts/bench`."""

import argparse
import contextlib
import functools
import importlib
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import nodes
import plot
import product
import results
from contest import talk
from disk import isolate_mounts
from measure import ChildFailed, command, run
from peers import Release
from plane import bundles_in
from session import Session, choose_peers, machine

CASES = (
    *("install", "upgrade", "delta", "switch", "memory", "scale", "run", "load", "density"),
    "node",
)
_PACKAGES = (
    "casync",
    "curl",
    "docker-registry",
    "e2fsprogs",
    "libarchive-tools",
    "iproute2",
    "mmdebstrap",
    "nginx-light",
    "nix-bin",
    "ostree",
    "podman",
    "rsync",
    "runc",
    "skopeo",
    "squashfs-tools",
    "systemd-container",
    "zchunk",
    "zstd",
)
_OUT = Path(__file__).resolve().parents[2] / "out"
_BUNDLES = _OUT / "demo"
"""Where scripts/demo leaves what it built."""
_CONTROL_PLANE = _OUT / "openstack"
"""Where scripts/demo-openstack does."""


def main(words: Sequence[str]) -> int:
    """Measure what is asked for, print tables, write JSON and plot; returns the exit code."""
    options = _parser().parse_args(words)
    if options.install_peers:
        _install_peers()
        if not options.cases:
            return 0
    if options.results:
        return _report(options, results.read_json(options.results))
    if os.geteuid() != 0:
        return _refuse("it needs root: every measurement gets a file system of its own")
    isolate_mounts()
    # A polite end unwinds like Ctrl-C, so that children end and mounts go.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with _workdir(options) as workdir:
            tables = _measure(options, workdir)
    except ChildFailed as error:
        return _refuse(str(error))
    except KeyboardInterrupt:
        return 130
    return _report(options, tables)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="scripts/bench",
        description="Measure appb beside other tools; needs root. docs/benchmarks.md says how.",
    )
    add = parser.add_argument
    add("cases", nargs="*", metavar="CASE", help=f"which of {', '.join(CASES)}; default: all")
    add(
        "--bundles",
        nargs=2,
        type=Path,
        metavar=("OLD", "NEW"),
        help="default: the demo's",
    )
    add(
        "--trees",
        nargs=2,
        type=Path,
        metavar=("OLD", "NEW"),
        help="or bundles made from these",
    )
    add("--rounds", type=int, default=5, help="how often each is measured (5)")
    add("--peers", metavar="NAMES", help="parts of names, comma-separated, or none; default: all")
    add("--workdir", type=Path, help="where images and archives are made, and kept")
    add("--apps", default="100x10,1000x1,1000x10", help="sizes of nodes in scale (%(default)s)")
    add("--large", type=int, default=2_000_000_000, help="bytes of the large bundle in memory")
    add("--services", type=int, default=200, help="how many in density (%(default)s)")
    add(
        "--control-plane",
        type=Path,
        metavar="DIR",
        default=_CONTROL_PLANE,
        help="bundles of all apps in node; default: the OpenStack demo's",
    )
    add("--keeper", choices=("systemd", "embedded"), help="of services; default: who can be had")
    add("--json", type=Path, metavar="FILE", help="write all values")
    add("--plot", type=Path, metavar="FILE", help="draw install and upgrade as SVG")
    add("--results", type=Path, metavar="FILE", help="show an earlier --json instead of measuring")
    add("--install-peers", action="store_true", help="apt-get install the other tools first")
    return parser


def _refuse(what: str) -> int:
    talk(what)
    return 1


def _install_peers() -> None:
    install = ["apt-get", "install", "-qy", "--no-install-recommends", *_PACKAGES]
    quiet = "noninteractive"
    run(
        [
            command("apt-get", "update", "-q", DEBIAN_FRONTEND=quiet),
            command(*install, DEBIAN_FRONTEND=quiet),
        ],
        time_limit_s=1800,
    )


@contextlib.contextmanager
def _workdir(options: argparse.Namespace) -> Iterator[Path]:
    """The directory that was named, or a temporary one beside what scripts/demo built."""
    if options.workdir:
        options.workdir.mkdir(parents=True, exist_ok=True)
        yield options.workdir.resolve()
        return
    _OUT.mkdir(exist_ok=True)
    directory = Path(tempfile.mkdtemp(prefix="bench-", dir=_OUT))
    try:
        yield directory
    finally:
        shutil.rmtree(directory)


def _inputs(options: argparse.Namespace) -> tuple[Path, Path]:
    """The bundles or trees to measure with: those that were named, else the demo's."""
    if options.trees or options.bundles:
        old, new = options.trees or options.bundles
        return old, new
    found = [_BUNDLES / f"nova-api-{version}.bundle" for version in ("33.0.2", "34.0.0")]
    if not all(bundle.exists() for bundle in found):
        raise SystemExit("bench: no bundles: run scripts/demo, or name two: --bundles OLD NEW")
    return found[0], found[1]


def _measure(options: argparse.Namespace, workdir: Path) -> list[results.Table]:
    cases = _cases(options)
    session = _session(options, workdir)
    tables = []
    for case in cases:
        tables += importlib.import_module(f"case_{case}").measure(session)
    return tables


def _cases(options: argparse.Namespace) -> Sequence[str]:
    """Those that were named, else all that have something to measure with."""
    unknown = [case for case in options.cases if case not in CASES]
    if unknown:
        raise SystemExit(f"bench: {unknown[0]} is none of {', '.join(CASES)}")
    if bundles_in(options.control_plane):
        return options.cases or CASES
    what = f"no bundles in {options.control_plane}: run scripts/demo-openstack"
    if "node" in options.cases:
        raise SystemExit(f"bench: {what}, or name another: --control-plane DIR")
    if not options.cases:
        talk(f"node: skipped, {what}")
    return options.cases or [case for case in CASES if case != "node"]


def _session(options: argparse.Namespace, workdir: Path) -> Session:
    names = options.peers.split(",") if options.peers else None
    peers, missing = choose_peers(names)
    for peer in missing:
        talk(f"{peer.name}: not installed, skipped ({peer.package}; scripts/bench --install-peers)")
    return Session(
        workdir=workdir,
        releases=functools.cache(lambda: _releases(options, workdir)),
        given=tuple(options.bundles) if options.bundles else None,
        rounds=options.rounds,
        names=names,
        peers=peers,
        apps=[_size(word) for word in options.apps.split(",")],
        large_bytes=options.large,
        services=options.services,
        keepers=[options.keeper] if options.keeper else nodes.kinds(),
        control_plane=options.control_plane,
    )


def _size(word: str) -> tuple[int, int]:
    apps, _, versions = word.partition("x")
    return int(apps), int(versions)


def _releases(options: argparse.Namespace, workdir: Path) -> tuple[Release, Release]:
    old, new = _inputs(options)
    if options.bundles or not options.trees:
        talk("unpacking the bundles, to make the other tools' archives from their files")
        return (
            product.release_of_bundle(old, workdir),
            product.release_of_bundle(new, workdir),
        )
    talk("making bundles of the trees")
    before = product.release_of_tree(old.resolve(), workdir, name="tree", version="1.0")
    after = product.release_of_tree(
        new.resolve(), workdir, name="tree", version="2.0", previous=before
    )
    return before, after


def _report(options: argparse.Namespace, tables: list[results.Table]) -> int:
    results.show(tables)
    if options.json:
        results.write_json(options.json, machine(), tables)
    if options.plot:
        plot.draw(options.plot, tables)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
