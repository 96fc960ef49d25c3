"""Going back, and asking, as whole processes, against an interpreter that does nothing."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import signing
from contest import Contestant, Sample, medians, take_turns
from disk import fresh_disk
from measure import Command, command, output, run
from peers import is_installed
from product import appb, appb_json
from results import Column, Table
from session import Session

from bundles import write_bundle

VERSIONS = (2, 20, 100)
_TURNS = 4
"""Short processes are measured this many times as often as long ones."""
_BARE = "python3 -I -c pass"


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A command to time, and what puts the node back to where it was."""

    name: str
    timed: Command
    undo: Command | None = None


def measure(session: Session) -> list[Table]:
    """The same commands on nodes with few and many versions, small and large bundles."""
    table = Table(
        name="switch",
        title="Whole processes, against a bare interpreter",
        columns=(
            Column("name", "Command"),
            Column("node", "node"),
            Column("seconds", "ms", "ms"),
            Column("ratio", "ratio to python3", "ratio"),
        ),
    )
    for count in VERSIONS:
        _on_node(session, table, f"{count} small versions", partial(_small, session, count))
    title = f"2 versions of {session.describe(session.new)}"
    _on_node(session, table, title, partial(_large, session))
    return [table]


def _on_node(session: Session, table: Table, title: str, fill: Callable[[Path], None]) -> None:
    with fresh_disk(session.workdir) as disk:
        signing.trust(disk, session.workdir)
        fill(disk)
        questions = [*_questions(disk), *_nix_rollback(disk)]
        contestants = [Contestant(q.name, partial(once, q)) for q in questions]
        rounds = max(3, session.rounds * _TURNS)
        samples = take_turns(title, contestants, rounds, quiet=True)
    bare = medians(samples[_BARE])
    for question in questions:
        if own := samples.get(question.name):
            table.rows.append(
                {
                    "name": question.name,
                    "node": title,
                    "seconds": medians(own),
                    "ratio": medians(own) / bare,
                    "all_seconds": [sample.usage.seconds for sample in own],
                }
            )


def bare_interpreter() -> Question:
    """The least that anything in Python takes."""
    return Question(name=_BARE, timed=command(sys.executable, "-I", "-c", "pass"))


def _questions(root: Path) -> list[Question]:
    """What is timed on a node with at least two generations, the newest of which is current."""
    number = appb_json("history", root=root)["current"]
    forward = appb("-q", "switch", "--to", str(number), root=root)
    return [
        bare_interpreter(),
        Question(
            name="appb switch --previous",
            timed=appb("switch", "--previous", root=root),
            undo=forward,
        ),
        Question(name="appb list", timed=appb("list", root=root)),
        Question(name="appb --help", timed=appb("--help")),
    ]


def _nix_rollback(disk: Path) -> list[Question]:
    """nix-env --rollback between two profiles of one file each, where nix is installed."""
    if not is_installed("nix-env"):
        return []
    options = ["--option", "build-users-group", "", "--store", f"local?root={disk}/nix-root"]
    profile: list[str | Path] = ["nix-env", *options, "--profile", disk / "profile"]
    for name in ("a", "b"):
        source = disk / f"nix-source-{name}"
        source.write_text(name)
        stored = output(command("nix-store", *options, "--add", source)).strip()
        run([command(*profile, "--set", stored)])
    back = command(*profile, "--rollback")
    forward = command(*profile, "--switch-generation", "2")
    return [Question(name="nix-env --rollback", timed=back, undo=forward)]


def once(question: Question) -> Sample:
    """Time a command once, and undo what it did."""
    usage = run([question.timed])
    if question.undo:
        run([question.undo])
    return Sample(usage=usage)


def _small(session: Session, count: int, disk: Path) -> None:
    sign = signing.signer(session.workdir)
    for number in range(1, count + 1):
        bundle = session.workdir / "small.bundle"
        contents = {"app/hello": b"hello %d\n" % number, "app/data": bytes(4096)}
        version = f"{number}.0"
        write_bundle(
            bundle, name="small", version=version, release=number, contents=contents, sign=sign
        )
        run([appb("-q", "install", bundle, root=disk)])
        bundle.unlink()


def _large(session: Session, disk: Path) -> None:
    for release in (session.old, session.new):
        run([appb("-q", "install", release.bundle, root=disk)])
