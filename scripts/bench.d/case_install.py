"""Installing a release on an empty disk: signature, every byte, pool, durable."""

from contest import Contestant, Sample, medians, on_fresh_disk, take_turns
from disk import warm
from peers import TAR, Peer, prepared
from product import APPB
from results import Column, Row, Table
from session import Session

COLUMNS = (
    Column("name", "Tool"),
    Column("seconds", "seconds", "s"),
    Column("ratio", "ratio to tar", "ratio"),
    Column("cpu_seconds", "CPU seconds", "s"),
    Column("archive_bytes", "archive, MB", "MB"),
)


def measure(session: Session) -> list[Table]:
    """Every tool with the new release, on a new disk each time."""
    release = session.new
    tools = session.tools(release)

    def measured(tool: Peer) -> Contestant:
        durable_itself = tool.name == APPB
        return Contestant(
            tool.name,
            lambda: on_fresh_disk(session.workdir, tool, [release], durable_itself=durable_itself),
        )

    samples = take_turns("install", [measured(tool) for tool in tools], session.rounds)
    table = Table(
        name="install",
        title=f"Install from nothing: {session.describe(release)}",
        columns=COLUMNS,
    )
    for tool in tools:
        if samples.get(tool.name):
            row = timing_row(tool.name, samples[tool.name], samples.get(TAR.name))
            row["archive_bytes"] = warm([prepared(tool, release)])
            table.rows.append(row)
    table.rows.sort(key=lambda row: float(str(row["seconds"])))
    note_flush(table, samples)
    return [table]


def timing_row(name: str, samples: list[Sample], base: list[Sample] | None) -> Row:
    """The values that every tool's row has."""
    seconds = medians(samples)
    middle = min(samples, key=lambda sample: abs(sample.usage.seconds - seconds))
    return {
        "name": name,
        "seconds": seconds,
        "ratio": seconds / medians(base) if base else None,
        "cpu_seconds": middle.usage.cpu_seconds,
        "all_seconds": [sample.usage.seconds for sample in samples],
    }


def note_flush(table: Table, samples: dict[str, list[Sample]]) -> None:
    """Say what a flush after `appb install` still finds to do."""
    own = samples.get(APPB)
    if own:
        milliseconds = sorted(sample.flush_seconds for sample in own)[len(own) // 2] * 1000
        table.notes.append(
            "appb is timed to its own end, when the new version is durable; the others to the end "
            f"of a syncfs after them. A syncfs after appb takes {milliseconds:.0f} ms: "
            "links of the pool, which need not survive a power loss."
        )
