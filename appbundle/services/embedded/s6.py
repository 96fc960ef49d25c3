"""s6: a service directory for each instance, linked into one scan directory.

Sources: https://skarnet.org/software/s6/servicedir.html, s6-svc, s6-svstat, s6-svlink.
"""

from __future__ import annotations

import os
import shlex
import shutil
import time
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from appbundle.services.embedded.control import (
    LOG_BYTES,
    LOG_FILES,
    START_INTERVAL_S,
    START_LIMIT,
    Ended,
    Patience,
    Program,
    Status,
)
from appbundle.services.embedded.places import HOLDER, Places
from appbundle.system import files, process

_FIELDS = "up,wantedup,ready,pid,updownsince"
_TAI_OFFSET = (1 << 62) + 37
"""Between a TAI64 label and seconds since the epoch; there was no leap second since 2017."""
_TIMEOUT_S = 30.0
_SCRIPT = 0o755
_STATUSES = "1-255," + ",".join(
    f"SIG{name}"
    for name in (
        *("ABRT", "ALRM", "BUS", "FPE", "ILL", "KILL", "QUIT", "SEGV"),
        *("SYS", "TRAP", "USR1", "USR2", "XCPU", "XFSZ"),
    )
)
_FINISH = f"""\
#!/bin/sh
# $1: exit status, 256 after a signal; $2: that signal.
if [ -e restarting ]; then
    rm -f restarting
    exit 0
fi
printf '%s %s\\n' "$1" "$2" >.ended.new && mv .ended.new ended
[ -e once ] && exit 0
# As Restart=on-failure: who ends well stays so, and so does who ends too often.
[ "$1" = 0 ] && exit 125
[ "$1" = 256 ] && case $2 in 1|2|13|15) exit 125 ;; esac
s6-permafailon {START_INTERVAL_S} {START_LIMIT} {_STATUSES} true || touch too-often
[ -e too-often ] && exit 125
exit 0
"""


def is_installed() -> bool:
    """Whether this machine has s6, recent enough."""
    return all(map(shutil.which, ("s6-svscan", "s6-svlink", "s6-permafailon")))


@dataclass(frozen=True, slots=True)
class S6:
    """s6 of one node."""

    places: Places
    kind = "s6"

    @property
    def _scan(self) -> Path:
        return self.places.run / "s6"

    def _source(self, name: str) -> Path:
        return self.places.supervisor / name

    def prepare(self, holder: Program) -> list[str]:
        """Make an empty scan directory but for the holder."""
        self.places.check_root("\n")
        for path in (self._scan, self.places.supervisor):
            shutil.rmtree(path, ignore_errors=True)
            path.mkdir()
        self._write(HOLDER, holder)
        (self._source(HOLDER) / "down").unlink()
        (self._source(HOLDER) / "finish").unlink()
        (self._scan / HOLDER).symlink_to(os.path.relpath(self._source(HOLDER), self._scan))
        return [_program("s6-svscan"), str(self._scan)]

    def is_running(self) -> bool:
        """Whether s6-svscan has the scan directory."""
        return self._succeeds("s6-svscanctl", str(self._scan))

    def put(self, name: str, program: Program) -> None:
        """Write the service directory; s6-supervise reads it at each start and stop."""
        self._write(name, program)
        if not (self._scan / name).is_symlink():
            timeout_ms = str(int(_TIMEOUT_S * 1000))
            self._run("s6-svlink", "-t", timeout_ms, str(self._scan), str(self._source(name)), name)

    def remove(self, name: str) -> None:
        """End s6-supervise, and remove its directory."""
        if (self._scan / name).is_symlink():
            timeout_ms = str(int(_TIMEOUT_S * 1000))
            self._run("s6-svunlink", "-t", timeout_ms, str(self._scan), name)
        shutil.rmtree(self._source(name), ignore_errors=True)

    def status(self, names: Collection[str]) -> dict[str, Status]:
        """Ask s6-svstat."""
        return {name: self._status(name) for name in names}

    def up(self, name: str) -> None:
        """Start it; forget how it ended before."""
        self._forget(name)
        once = (self._source(name) / "once").exists()
        self._run("s6-svc", "-o" if once else "-u", str(self._source(name)))

    def down(self, programs: Patience) -> None:
        """Stop them; `timeout-kill` is how s6 knows when to kill one."""
        for name in programs:
            (self._source(name) / "restarting").unlink(missing_ok=True)
            self._run("s6-svc", "-d", str(self._source(name)))
        for name, timeout_s in programs.items():
            wait = ("-wD", "-T", str(int(timeout_s * 1000)))
            self._run("s6-svc", *wait, "-d", str(self._source(name)), timeout_s=timeout_s)
            self._forget(name)

    def restart(self, programs: Patience) -> None:
        """One command each, so that nobody is needed between an end and the start."""
        before = {name: status.pid for name, status in self.status(programs).items()}
        for name, pid in before.items():
            if pid is None:
                self.up(name)
                continue
            self._forget(name)
            (self._source(name) / "restarting").touch()
            once = (self._source(name) / "once").exists()
            self._run("s6-svc", "-do" if once else "-du", str(self._source(name)))
        began = time.monotonic()
        for name, pid in before.items():
            while pid is not None and self._status(name).pid == pid:
                if time.monotonic() >= began + programs[name]:
                    break
                time.sleep(0.02)

    def _forget(self, name: str) -> None:
        for each in ("ended", "too-often", "restarting", "supervise/death_tally"):
            (self._source(name) / each).unlink(missing_ok=True)

    def _status(self, name: str) -> Status:
        try:
            said = self._run("s6-svstat", "-o", _FIELDS, str(self._source(name)))
        except process.ProgramError:
            return Status()
        up, wanted, ready, pid, since = said.split()
        once = (self._source(name) / "once").exists()
        return Status(
            pid=int(pid) if up == "true" else None,
            wanted=wanted == "true" or (once and up == "true"),
            stopping=up == "true" and wanted != "true" and not once,
            ready=ready == "true",
            since=int(since.removeprefix("@")[:16], 16) - _TAI_OFFSET,
            ended=self._ended(name),
            too_often=(self._source(name) / "too-often").exists(),
        )

    def _ended(self, name: str) -> Ended | None:
        try:
            code, number = map(int, (self._source(name) / "ended").read_text().split())
        except (FileNotFoundError, ValueError):
            return None
        return Ended(code=None, signal=number) if code == 256 else Ended(code=code)

    def _write(self, name: str, program: Program) -> None:
        source = self._source(name)
        contents = {
            "run": f"#!/bin/sh\nexec 2>&1\nexec {shlex.join(program.argv)}\n",
            "finish": _FINISH,
            "timeout-kill": f"{program.stop_timeout_s * 1000}\n",
            "down-signal": f"SIG{program.stop_signal}\n",
            "log/run": _log_script(program.log),
        }
        if program.ready_fd is not None:
            contents["notification-fd"] = f"{program.ready_fd}\n"
        (source / "log").mkdir(parents=True, exist_ok=True)
        files.make_directory(program.log, mode=0o750)
        # Nothing starts by itself: `appb supervise` starts in the order that services ask for.
        for flag, is_set in (("down", True), ("once", program.once)):
            (source / flag).touch() if is_set else (source / flag).unlink(missing_ok=True)
        for path, text in contents.items():
            fresh = source / f".{path.replace('/', '.')}.new"
            fresh.write_text(text)
            fresh.chmod(_SCRIPT)
            fresh.rename(source / path)

    def _succeeds(self, *argv: str) -> bool:
        try:
            self._run(*argv)
        except process.ProgramError:
            return False
        return True

    def _run(self, *argv: str, timeout_s: float = _TIMEOUT_S) -> str:
        done = process.run(
            argv,
            environment=process.basic_environment(os.environ),
            timeout_s=timeout_s + _TIMEOUT_S,
        )
        return done.stdout.decode()


def _log_script(directory: Path) -> str:
    words = ["s6-log", "-b", f"n{LOG_FILES}", f"s{LOG_BYTES}", "T", str(directory)]
    return f"#!/bin/sh\nexec {shlex.join(words)}\n"


def _program(name: str) -> str:
    return shutil.which(name) or f"/usr/bin/{name}"
