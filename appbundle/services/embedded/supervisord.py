"""supervisor from PyPI: a configuration file for each instance, and its XML-RPC on a socket.

Sources: http://supervisord.org/configuration.html, http://supervisord.org/api.html.
"""

from __future__ import annotations

import http.client
import os
import shlex
import shutil
import socket
import sys
import time
import xmlrpc.client
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from appbundle.errors import AppbError
from appbundle.services.embedded.control import (
    LOG_BYTES,
    LOG_FILES,
    Ended,
    Patience,
    Program,
    Status,
)
from appbundle.services.embedded.places import HOLDER, Places
from appbundle.system import daemons, files

_STOPPED, _STARTING, _RUNNING, _BACKOFF, _STOPPING = 0, 10, 20, 30, 40
_EXITED, _FATAL = 100, 200
_NO_SUCH, _ALREADY_STARTED, _NOT_RUNNING = 10, 60, 70
_SCRIPT = 0o755
_TIMEOUT_S = 60.0
_POLL_S = 0.02


@dataclass(frozen=True, slots=True)
class Supervisord:
    """supervisord of one node."""

    places: Places
    kind = "supervisor"

    @property
    def _configuration(self) -> Path:
        return self.places.supervisor / "supervisord.conf"

    @property
    def _socket(self) -> Path:
        return self.places.supervisor / "control"

    def _script(self, name: str) -> Path:
        return self.places.supervisor / f"{name}.run"

    def _ready(self, name: str) -> Path:
        return self.places.supervisor / f"{name}.ready"

    def prepare(self, holder: Program) -> list[str]:
        """Write the main file, and that of the holder."""
        # The first is for patterns of names, the others mean something in such files.
        self.places.check_root("[]*?" + "%;\"'\\")
        shutil.rmtree(self.places.supervisor, ignore_errors=True)
        self.places.supervisor.mkdir()
        lines = [
            "[supervisord]",
            "nodaemon=true",
            "silent=true",
            *(["user=root"] if os.geteuid() == 0 else []),
            f"directory={self.places.run}",
            f"childlogdir={self.places.logs}",
            f"logfile={self.places.logs}/supervisor.log",
            f"logfile_maxbytes={LOG_BYTES}",
            f"pidfile={self.places.supervisor}/pid",
            "[unix_http_server]",
            f"file={self._socket}",
            "chmod=0600",
            "[rpcinterface:supervisor]",
            "supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface",
            "[include]",
            "files=*.conf.d",
        ]
        self._configuration.write_text("\n".join(lines) + "\n")
        self._write(HOLDER, holder, autostart=True)
        module = "supervisor.supervisord"
        return [sys.executable, "-I", "-m", module, "-c", str(self._configuration)]

    def is_running(self) -> bool:
        """Whether it answers."""
        try:
            self._call("getState", timeout_s=2)
        except AppbError:
            return False
        return True

    def put(self, name: str, program: Program) -> None:
        """Write its file; supervisord has to read it before a start, and not while it runs."""
        self._write(name, program)

    def remove(self, name: str) -> None:
        """Remove its file, and have supervisord forget it."""
        path = self.places.supervisor / f"{name}.conf.d"
        path.unlink(missing_ok=True)
        self._call("reloadConfig")
        try:
            self._call("removeProcessGroup", name)
        except _FaultError as fault:
            if fault.code != _NO_SUCH:
                raise
        for left in (self._script(name), self._ready(name)):
            left.unlink(missing_ok=True)

    def status(self, names: Collection[str]) -> dict[str, Status]:
        """Ask for all at once."""
        known = {info["name"]: info for info in self._call("getAllProcessInfo")}
        return {
            name: self._status(name, known[name]) if name in known else Status() for name in names
        }

    def up(self, name: str) -> None:
        """Have it read what is new, and start."""
        self._read_anew(name)
        if self.status([name])[name].pid is None:
            # What is there belongs to the process before.
            self._ready(name).unlink(missing_ok=True)
        try:
            self._call("startProcess", name, False)
        except _FaultError as fault:
            if fault.code != _ALREADY_STARTED:
                raise

    def down(self, programs: Patience) -> None:
        """Stop them; supervisord kills one after `stopwaitsecs`."""
        for name in programs:
            try:
                self._call("stopProcess", name, False)
            except _FaultError as fault:
                if fault.code not in (_NOT_RUNNING, _NO_SUCH):
                    raise
        self._wait_down(programs)
        for name in programs:
            # Else it would still be said to have failed.
            self._read_anew(name, always=True)

    def _wait_down(self, programs: Patience) -> None:
        began = time.monotonic()
        while left := [name for name, each in self.status(programs).items() if each.pid]:
            for name in left:
                if time.monotonic() >= began + programs[name]:
                    raise AppbError(f"{name} does not end", hint=f"see {self.places.logs}")
            time.sleep(_POLL_S)

    def restart(self, programs: Patience) -> None:
        """supervisord cannot do it in one step, so a process that nobody waits for does."""
        root = str(self.places.layout.root)
        argv = [sys.executable, "-I", "-m", "appbundle.services.embedded.again", root]
        each = [f"{name}={timeout_s}" for name, timeout_s in programs.items()]
        child = daemons.start([*argv, *each], self.places.environment(), log=os.devnull)
        _, status = os.waitpid(child, 0)
        if status:
            raise AppbError(
                f"{', '.join(programs)} could not be stopped and started",
                hint=f"see {self.places.logs}",
            )

    def _status(self, name: str, info: dict[str, Any]) -> Status:
        state = int(info["state"])
        runs = state in (_STARTING, _RUNNING, _STOPPING)
        ended = None
        if state == _EXITED:
            code = int(info["exitstatus"])
            ended = Ended(code=code) if code >= 0 else Ended(code=None, signal=0)
        elif state in (_BACKOFF, _FATAL):
            # Its exit status is forgotten by then.
            ended = Ended(code=None)
        return Status(
            pid=int(info["pid"]) or None if runs else None,
            wanted=state in (_STARTING, _RUNNING, _BACKOFF),
            stopping=state == _STOPPING,
            ready=runs and self._is_ready(name),
            since=int(info["start"] if runs else info["stop"]) or None,
            ended=ended,
            too_often=state == _FATAL,
        )

    def _is_ready(self, name: str) -> bool:
        try:
            return self._ready(name).stat().st_size > 0
        except FileNotFoundError:
            return False

    def _read_anew(self, name: str, *, always: bool = False) -> None:
        """Let supervisord know what the file of a program that does not run says."""
        added, changed, _ = self._call("reloadConfig")[0]
        known = {info["name"]: info for info in self._call("getAllProcessInfo")}
        if name in known:
            if known[name]["state"] in (_STARTING, _RUNNING, _BACKOFF, _STOPPING):
                return
            if name not in changed and not always:
                return
            self._call("removeProcessGroup", name)
        elif name not in added:
            return
        self._call("addProcessGroup", name)

    def _write(self, name: str, program: Program, *, autostart: bool = False) -> None:
        files.make_directory(program.log, mode=0o750)
        script = self._script(name)
        ready = ""
        if program.ready_fd is not None:
            ready = f" {program.ready_fd}>{shlex.quote(str(self._ready(name)))}"
        _replace(script, f"#!/bin/sh\nexec {shlex.join(program.argv)}{ready}\n")
        # In two seconds it has come up, or is tried again after one, two, three and four more:
        # five ends in ten seconds, as elsewhere.
        retries = (0, 0) if program.once else (2, 4)
        lines = [
            f"[program:{name}]",
            f"command={script}",
            f"autostart={'true' if autostart else 'false'}",
            f"autorestart={'true' if autostart else 'false' if program.once else 'unexpected'}",
            "exitcodes=0",
            f"startsecs={retries[0]}",
            f"startretries={retries[1]}",
            f"stopsignal={program.stop_signal}",
            f"stopwaitsecs={program.stop_timeout_s}",
            "redirect_stderr=true",
            f"stdout_logfile={program.log}/current",
            f"stdout_logfile_maxbytes={LOG_BYTES}",
            f"stdout_logfile_backups={LOG_FILES}",
        ]
        _replace(self.places.supervisor / f"{name}.conf.d", "\n".join(lines) + "\n")

    def _call(self, method: str, *arguments: Any, timeout_s: float = 0) -> Any:
        transport = _UnixTransport(self._socket, timeout_s + _TIMEOUT_S)
        server = xmlrpc.client.ServerProxy("http://supervisor", transport=transport)
        try:
            return getattr(server.supervisor, method)(*arguments)
        except xmlrpc.client.Fault as fault:
            raise _FaultError(method, fault) from fault
        except (OSError, http.client.HTTPException, xmlrpc.client.Error) as error:
            raise AppbError(f"supervisord does not answer: {error}") from error


class _FaultError(AppbError):
    kind = "supervisor"

    def __init__(self, method: str, fault: xmlrpc.client.Fault) -> None:
        super().__init__(f"supervisord refuses {method}: {fault.faultString}")
        self.code = fault.faultCode


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path, timeout_s: float) -> None:
        super().__init__("supervisor", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


class _UnixTransport(xmlrpc.client.Transport):
    def __init__(self, path: Path, timeout_s: float) -> None:
        super().__init__()
        self._path, self._timeout_s = path, timeout_s

    def make_connection(self, host: object) -> http.client.HTTPConnection:
        return _UnixConnection(self._path, self._timeout_s)


def _replace(path: Path, text: str) -> None:
    fresh = path.with_name(f".{path.name}.new")
    fresh.write_text(text)
    fresh.chmod(_SCRIPT)
    fresh.rename(path)
