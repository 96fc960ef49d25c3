"""How services of these bundles start: their state first, then uwsgi.

The first start makes a database's tables, since the server may be on its way with the same switch.
A release that follows another one migrates before, as a task, while that one still serves. What was
done is remembered, so that a start has nothing to do if nothing differs.
"""

import fcntl
import hashlib
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

UWSGI = "/usr/local/bin/uwsgi"


def main(
    state: Path,
    made_of: Sequence[bytes],
    steps: Callable[[], None],
    become: Callable[..., None],
    *,
    databases: Sequence[str],
) -> None:
    """Do what the program's argument says.

    Args:
        state: The app's directory; what was done is remembered there.
        made_of: What the steps depend on: they are done again when it differs.
        steps: Have the databases, and what is in them, as this release and its settings need them.
        become: Serve. It gets the arguments, unless that is the name of a task: `--migrate` only
            does the steps, if they ever were done, `--snapshot` and `--restore` what these say.
        databases: What a snapshot is of.
    """
    os.umask(0o077)
    match sys.argv[1:]:
        case ["--migrate"]:
            prepare(state, made_of, steps, first=False)
        case ["--snapshot"]:
            import keeping

            keeping.snapshot(Path(os.environ["APPB_SNAPSHOT"]), _done(state), databases)
        case ["--restore"]:
            import keeping

            keeping.restore(Path(os.environ["APPB_SNAPSHOT"]), _done(state))
        case arguments:
            prepare(state, made_of, steps, first=True)
            become(*arguments)


def prepare(
    state: Path, made_of: Sequence[bytes], steps: Callable[[], None], *, first: bool
) -> None:
    """Do some steps once.

    Args:
        state: As for `main`, and so `made_of`.
        first: Whether to do them also if they never were.
    """
    done, wanted = _done(state), hashlib.sha256(b"\0".join(made_of)).hexdigest()
    with (state / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        before = done.read_text() if done.exists() else ""
        if before == wanted or not (before or first):
            return
        steps()
        # It says that all is there: that must not come after it.
        os.sync()
        done.write_text(wanted)


def _done(state: Path) -> Path:
    return state / "done"


def run(*command: str, **environment: str) -> None:
    """Run a program of the bundle; the end of everything if it fails."""
    print(" ".join(command), file=sys.stderr, flush=True)
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, env={**os.environ, **environment}, check=False
    )
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)} failed with status {done.returncode}")


def serve(application: str, **environment: str) -> None:
    """Become uwsgi with an application on the socket that was passed, with WORKERS processes."""
    os.environ.update(environment)
    options = [
        # uwsgi takes the socket that LISTEN_FDS tells of by itself, and speaks HTTP there.
        *("--protocol", "http"),
        *("--module", application),
        *("--processes", os.environ["WORKERS"]),
        *("--add-header", "Connection: close"),
        # Answer what has been accepted before the end.
        *("--hook-master-start", "unix_signal:15 gracefully_kill_them_all"),
        *("--master", "--lazy-apps", "--need-app", "--disable-logging"),
    ]
    os.execv(UWSGI, [UWSGI, *options])  # noqa: S606 (fixed, and no shell)
