"""How OpenStack's services of these bundles start: the database first, then uwsgi.

The first start makes the database's tables, since the server may be on its way with the same
switch. A release that follows another one migrates before, as a task, while that one still serves.
What was done is remembered, so that a start has nothing to do if nothing differs.
"""

import fcntl
import hashlib
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

UWSGI = "/usr/local/bin/uwsgi"


def prepare(
    state: Path, made_of: Sequence[bytes], steps: Callable[[], None], *, first: bool
) -> None:
    """Do some steps once.

    Args:
        state: The app's directory; what was done is remembered there.
        made_of: What the steps depend on: they are done again when it differs.
        first: Whether to do them also if they never were.
    """
    done, wanted = state / "done", hashlib.sha256(b"\0".join(made_of)).hexdigest()
    with (state / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        before = done.read_text() if done.exists() else ""
        if before == wanted or not (before or first):
            return
        steps()
        # It says that all is there: that must not come after it.
        os.sync()
        done.write_text(wanted)


def run(*command: str, **environment: str) -> None:
    """Run a program of the bundle; the end of everything if it fails."""
    print(" ".join(command), file=sys.stderr, flush=True)
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, env={**os.environ, **environment}, check=False
    )
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)} failed with status {done.returncode}")


def serve(application: str, *, workers: str, **environment: str) -> None:
    """Become uwsgi with an application on the socket that was passed."""
    os.environ.update(environment)
    options = [
        # uwsgi takes the socket that LISTEN_FDS tells of by itself, and speaks HTTP there.
        *("--protocol", "http"),
        *("--module", application),
        *("--processes", workers),
        *("--add-header", "Connection: close"),
        # Answer what has been accepted before the end.
        *("--hook-master-start", "unix_signal:15 gracefully_kill_them_all"),
        *("--master", "--lazy-apps", "--need-app", "--disable-logging"),
    ]
    os.execv(UWSGI, [UWSGI, *options])  # noqa: S606 (fixed, and no shell)
