"""`appb gc`."""

import click

from appbundle.cli.duration import Duration
from appbundle.cli.session import Session, table
from appbundle.cli.words import size


@click.command(name="gc")
@click.option("--keep", metavar="N", type=click.IntRange(min=0), help="Keep N newest of each app.")
@click.option("--older-than", metavar="TIME", type=Duration(), help="Remove nothing younger: 30d.")
@click.option("-n", "--dry-run", is_flag=True, help="Say what would go, and why the rest stays.")
@click.pass_obj
def gc_command(session: Session, keep: int | None, older_than: int | None, dry_run: bool) -> None:
    """Remove versions that are old, surplus and unused.

    A version goes only if it is neither current, nor what `switch --previous` brings back, nor
    pinned, nor in use by a process, nor among the newest N, nor younger than TIME. Defaults come
    from node.toml: 3 versions, 30 days. Versions that failed take none of the N places.
    """
    from appbundle.flows import remove
    from appbundle.flows.remove import gc_policy

    context = session.context()
    policy = gc_policy(context, keep=keep, older_than_s=older_than)
    done = remove.collect(context, policy, dry_run=dry_run)
    document = {
        "removed": [
            {"name": v.name, "version": v.version, "reason": v.reason}
            for v in done.verdicts
            if not v.keep
        ],
        "kept": [
            {"name": v.name, "version": v.version, "reason": v.reason}
            for v in done.verdicts
            if v.keep
        ],
        "generations": list(done.generations),
        "objects": done.objects,
        "freed_bytes": done.freed_bytes,
        "dry_run": dry_run,
    }
    rows = [(v.name, v.version, "keep" if v.keep else "remove", v.reason) for v in done.verdicts]
    verb = "would free" if dry_run else "freed"
    summary = f"{verb} {size(done.freed_bytes)}"
    words = f"{table(('app', 'version', '', 'why'), rows)}\n{summary}" if rows else summary
    (session.result if dry_run else session.done)(document, words)
