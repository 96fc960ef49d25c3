"""A node with very many apps: how listing, switching and collecting grow."""

import contextlib
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import signing
from case_switch import Question, bare_interpreter, once
from contest import Contestant, medians, take_turns, talk
from disk import fresh_disk, memory_disk
from measure import command, run
from product import appb, appb_json
from results import Column, Row, Table
from session import Session

from bundles import write_bundle

_DAY_S = 86400
_BATCH = 1000
"""Bundles in one install: one generation."""


def measure(session: Session) -> list[Table]:
    """The same commands on nodes of several sizes."""
    table = Table(
        name="scale",
        title="Nodes with many apps",
        columns=(
            Column("name", "Command"),
            *(
                Column(_key(apps, versions), f"{apps:,} apps with {versions}, ms", "ms")
                for apps, versions in session.apps
            ),
        ),
        notes=[
            "Every version has a file of its own and one that all share.",
            "With one version of each app there is nothing to go back to.",
        ],
    )
    rows: dict[str, Row] = {}
    for apps, versions in session.apps:
        with _node(session.workdir, apps, versions) as disk:
            questions = _questions(disk, versions)
            contestants = [Contestant(q.name, partial(once, q)) for q in questions]
            title = f"{apps} apps with {versions}"
            samples = take_turns(title, contestants, max(3, session.rounds), quiet=True)
        for name, own in samples.items():
            row = rows.setdefault(name, {"name": name})
            row[_key(apps, versions)] = medians(own)
            talk(f"{title}: {name}: {medians(own):.3f} s")
    table.rows = list(rows.values())
    return [table]


def _key(apps: int, versions: int) -> str:
    return f"{apps}x{versions}_seconds"


def _questions(root: Path, versions: int) -> list[Question]:
    number = str(appb_json("history", root=root)["current"])
    forward = appb("-q", "switch", "--to", number, root=root)
    questions = [
        bare_interpreter(),
        Question(name="appb list", timed=appb("list", root=root)),
        Question(name="appb gc --dry-run", timed=appb("gc", "--dry-run", root=root)),
    ]
    if versions > 1:
        one = appb("switch", "app-00000@1.0", root=root)
        all_back = appb("switch", "--previous", root=root)
        questions += [
            Question(name="appb switch --previous (all apps)", timed=all_back, undo=forward),
            Question(name="appb switch APP@VERSION", timed=one, undo=forward),
        ]
    return questions


@contextlib.contextmanager
def _node(workdir: Path, apps: int, versions: int) -> Iterator[Path]:
    """A node with so many apps, installed in memory (no flushes), then copied to a fresh disk."""
    start = time.monotonic()
    with fresh_disk(workdir) as disk:
        with memory_disk(workdir) as memory:
            signing.trust(memory / "node", workdir)
            for release in range(1, versions + 1):
                age_s = (versions - release) * 30 * _DAY_S
                _install_all(workdir, memory, apps, release, age_s=age_s)
            run([command("cp", "-a", f"{memory}/node/.", disk)])
        talk(f"{apps} apps with {versions} versions: made in {time.monotonic() - start:.0f} s")
        yield disk


def _install_all(workdir: Path, memory: Path, apps: int, release: int, *, age_s: int) -> None:
    """Install one release of every app, as if it had happened a while ago."""
    from appbundle.flows.context import Context
    from appbundle.flows.install import install
    from appbundle.layout import Layout

    sign = signing.signer(workdir)
    shared = b"the same in every app\n" * 100
    paths = []
    for number in range(apps):
        name = f"app-{number:05}"
        paths.append(memory / f"{name}.bundle")
        write_bundle(
            paths[-1],
            name=name,
            version=f"{release}.0",
            release=release,
            contents={"bin/start": f"{name} {release}\n".encode(), "lib/shared": shared},
            sign=sign,
        )
    context = Context(layout=Layout(memory / "node"), now=int(time.time()) - age_s, by="bench")
    for first in range(0, len(paths), _BATCH):
        install(context, list(map(str, paths[first : first + _BATCH])))
    for path in paths:
        path.unlink()
