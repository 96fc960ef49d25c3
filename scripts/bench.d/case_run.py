"""Starting /bin/true in full confinement, as whole processes, against a bare interpreter."""

import contextlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import programs
import signing
from case_switch import Question, bare_interpreter, once
from contest import Contestant, medians, take_turns
from disk import fresh_disk
from measure import Command, command, run
from peers import is_installed
from product import appb
from replacing import LIMITS, podman
from results import Column, Table
from session import Session

from appbundle.bundle.services import Service
from bundles import write_bundle
from tests.services.booted import booted, why_not

_PROGRAM = "/bin/true"
_TURNS = 6
"""Short processes are measured this many times as often as long ones."""
_HARDENED = (
    *("NoNewPrivileges=yes", "ProtectSystem=strict", "ProtectHome=yes", "PrivateTmp=yes"),
    *("PrivateDevices=yes", "PrivateNetwork=yes", "PrivateUsers=yes", "ProtectProc=invisible"),
    *("ProtectKernelTunables=yes", "ProtectControlGroups=yes", "RestrictNamespaces=yes"),
    *("MemoryDenyWriteExecute=yes", "RestrictAddressFamilies=AF_UNIX", "DynamicUser=yes"),
    *("CapabilityBoundingSet=", "SystemCallFilter=@system-service", "MemoryMax=2G"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Starter:
    """Another way to run a program of a tree apart from the rest of the machine.

    Args:
        name: Of the program.
        available: Whether it can be measured here.
        call: From the tree and a scratch directory to the command.
        confines: What it takes away, in words.
        by_systemd: Whether a systemd has to run where it is called.
    """

    name: str
    available: Callable[[], bool]
    call: Callable[[Path, Path], Command]
    confines: str
    by_systemd: bool = False


def measure(session: Session) -> list[Table]:
    """One table; every row runs the same program out of the same tree."""
    table = Table(
        name="run",
        title=f"{_PROGRAM} in a sandbox, whole processes",
        columns=(
            Column("name", "Command"),
            Column("confines", "confined by"),
            Column("seconds", "ms", "ms"),
            Column("ratio", "ratio to python3", "ratio"),
        ),
    )
    confines = {each.name: each.confines for each in _STARTERS}
    with fresh_disk(session.workdir) as disk, _systemd(disk) as prefix:
        questions = list(_questions(session, disk, prefix))
        contestants = [Contestant(q.name, partial(once, q)) for q in questions]
        samples = take_turns("run", contestants, max(10, session.rounds * _TURNS), quiet=True)
    bare = medians(samples[questions[0].name])
    for question in questions:
        if own := samples.get(question.name):
            table.rows.append(
                {
                    "name": question.name,
                    "confines": confines.get(question.name, ""),
                    "seconds": medians(own),
                    "ratio": medians(own) / bare,
                    "all_seconds": [sample.usage.seconds for sample in own],
                }
            )
    table.notes = [f"not measured here: {each.name}" for each in _STARTERS if not each.available()]
    return [table]


@contextlib.contextmanager
def _systemd(disk: Path) -> Iterator[Sequence[str]]:
    """Give what a command begins with that is to find a systemd, which also sees the disk."""
    if Path("/run/systemd/system").is_dir() or why_not():
        yield ()
        return
    with booted(str(disk)) as machine:
        yield machine.prefix


def _questions(session: Session, disk: Path, prefix: Sequence[str]) -> Iterator[Question]:
    yield bare_interpreter()
    signing.trust(disk, session.workdir)
    bundle = session.workdir / "true.bundle"
    write_bundle(
        bundle,
        name="true",
        version="1.0",
        release=1,
        contents=programs.with_libraries(_PROGRAM) | programs.mount_points("true"),
        sign=signing.signer(session.workdir),
        services=(Service(name="true", argv=(_PROGRAM,), kind="once"),),
    )
    run([appb("-q", "install", "--no-switch", bundle, root=disk)])
    bundle.unlink()
    yield Question(name="appb run", timed=appb("run", "true@1.0", root=disk))
    tree = disk / "apps/true/1.0"
    for starter in _STARTERS:
        if starter.available():
            timed = starter.call(tree, disk)
            if starter.by_systemd:
                timed = replace(timed, argv=(*prefix, *timed.argv))
            yield Question(name=starter.name, timed=timed)


def _bwrap(tree: Path, _: Path) -> Command:
    private = ("--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp", "--tmpfs", "/run")
    apart = ("--unshare-all", "--die-with-parent", "--new-session", "--cap-drop", "ALL")
    return command("bwrap", *apart, "--ro-bind", tree, "/", *private, _PROGRAM)


def _oci(runtime: str, tree: Path, disk: Path) -> Command:
    place = disk / runtime
    place.mkdir()
    run([command(runtime, "spec", "--bundle", place)])
    described = json.loads((place / "config.json").read_text())
    described["root"] = {"path": str(tree), "readonly": True}
    described["process"] |= {"args": [_PROGRAM], "terminal": False}
    (place / "config.json").write_text(json.dumps(described))
    return command(runtime, "run", "--bundle", place, f"bench-{runtime}")


def _nspawn(tree: Path, _: Path) -> Command:
    quiet = ("-q", "--register=no", "--keep-unit", "--as-pid2", "--read-only", "--private-network")
    return command("systemd-nspawn", *quiet, "-D", tree, _PROGRAM)


def _podman(tree: Path, disk: Path) -> Command:
    options = ("--rm", "--network=none", "--read-only", *LIMITS)
    return podman(disk, "run", *options, "--rootfs", tree, _PROGRAM)


def _systemd_run(tree: Path, _: Path) -> Command:
    root = (f"--property=RootDirectory={tree}", "--property=MountAPIVFS=yes")
    properties = [f"--property={each}" for each in _HARDENED]
    return command("systemd-run", "--quiet", "--wait", "--pipe", *root, *properties, _PROGRAM)


_STARTERS = (
    Starter(
        name="bwrap",
        available=lambda: is_installed("bwrap"),
        call=_bwrap,
        confines="namespaces, no capabilities",
    ),
    Starter(
        name="crun run",
        available=lambda: is_installed("crun"),
        call=partial(_oci, "crun"),
        confines="namespaces, few capabilities",
    ),
    Starter(
        name="runc run",
        available=lambda: is_installed("runc"),
        call=partial(_oci, "runc"),
        confines="namespaces, few capabilities",
    ),
    Starter(
        name="systemd-nspawn",
        available=lambda: is_installed("systemd-nspawn"),
        call=_nspawn,
        confines="namespaces, seccomp, many capabilities",
    ),
    Starter(
        name="podman run",
        available=lambda: is_installed("podman"),
        call=_podman,
        confines="namespaces, seccomp, few capabilities",
    ),
    Starter(
        name="systemd-run, hardened",
        available=lambda: Path("/run/systemd/system").is_dir() or not why_not(),
        call=_systemd_run,
        confines="namespaces, seccomp, no capabilities, limits",
        by_systemd=True,
    ),
)
