"""Starting /bin/true in full confinement, as whole processes, against a bare interpreter."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
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
from results import Column, Table
from session import Session

from appbundle.bundle.services import Service
from bundles import write_bundle

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
    """

    name: str
    available: Callable[[], bool]
    call: Callable[[Path, Path], Command]
    confines: str


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
    with fresh_disk(session.workdir) as disk:
        questions = list(_questions(session, disk))
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


def _questions(session: Session, disk: Path) -> Iterator[Question]:
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
            yield Question(name=starter.name, timed=starter.call(tree, disk))


def _bwrap(tree: Path, _: Path) -> Command:
    private = ("--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp", "--tmpfs", "/run")
    apart = ("--unshare-all", "--die-with-parent", "--new-session", "--cap-drop", "ALL")
    return command("bwrap", *apart, "--ro-bind", tree, "/", *private, _PROGRAM)


def _crun(tree: Path, disk: Path) -> Command:
    place = disk / "crun"
    place.mkdir()
    run([command("crun", "spec", "--bundle", place)])
    described = json.loads((place / "config.json").read_text())
    described["root"] = {"path": str(tree), "readonly": True}
    described["process"] |= {"args": [_PROGRAM], "terminal": False}
    (place / "config.json").write_text(json.dumps(described))
    return command("crun", "--cgroup-manager=disabled", "run", "--bundle", place, "bench")


def _nspawn(tree: Path, _: Path) -> Command:
    quiet = ("-q", "--register=no", "--keep-unit", "--as-pid2", "--read-only", "--private-network")
    return command("systemd-nspawn", *quiet, "-D", tree, _PROGRAM)


def _podman(tree: Path, _: Path) -> Command:
    return command("podman", "run", "--rm", "--network=none", "--rootfs", f"{tree}:O", _PROGRAM)


def _systemd_run(_: Path, __: Path) -> Command:
    properties = [f"--property={each}" for each in _HARDENED]
    return command("systemd-run", "--quiet", "--wait", "--pipe", *properties, _PROGRAM)


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
        call=_crun,
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
        available=lambda: Path("/run/systemd/system").is_dir(),
        call=_systemd_run,
        confines="namespaces, seccomp, no capabilities, limits",
    ),
)
