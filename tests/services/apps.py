"""Signed bundles of a small web server, in every mood; see server.c."""

import shutil
import subprocess
import tempfile
from collections.abc import Collection, Mapping
from pathlib import Path

from appbundle.build import encode
from appbundle.bundle.manifest import Manifest
from appbundle.bundle.services import Health, Service, Socket
from appbundle.bundle.statement import Signed, encode_statement
from appbundle.trust import sshsig
from tests.crash.support import KEY

MOUNT_POINTS = (
    *("dev", "etc", "proc", "run", "sys", "tmp"),
    *("var/cache", "var/lib", "var/log", "var/tmp"),
)
_SOURCE = Path(__file__).with_name("server.c")


def compile_server(directory: Path) -> Path:
    """Compile the server; it needs no library."""
    program = directory / "server"
    subprocess.run(["gcc", "-static", "-O1", "-Wall", "-o", program, _SOURCE], check=True)
    return program


def web(name: str = "web", *, port: int = 8081, **changed: object) -> Service:
    """A service on a socket, asked over HTTP for its health."""
    values: dict[str, object] = {
        "name": name,
        "argv": ("/bin/server",),
        "sockets": (Socket(name="http", listen=f"127.0.0.1:{port}"),),
        "health": Health(http=f"http://127.0.0.1:{port}/", grace_s=2, attempts=2, timeout_s=1),
        "ready_timeout_s": 5,
        "change": "overlap",
    }
    return Service(**(values | changed))  # type: ignore[arg-type]


def bundle(
    directory: Path,
    program: Path,
    *services: Service,
    version: str = "1.0",
    release: int = 1,
    name: str = "web",
    mode: str = "ok",
    files: Mapping[str, str] | None = None,
    without: Collection[str] = (),
    **more: object,
) -> Path:
    """Make a signed bundle of the server.

    Args:
        program: From `compile_server`.
        services: What it declares; `web()` by default.
        mode: The server's mood.
        files: Further files.
        without: Files that it lacks.
        more: Further keys of the manifest.
    """
    with tempfile.TemporaryDirectory(dir=directory) as scratch:
        tree = Path(scratch) / "tree"
        for point in MOUNT_POINTS:
            (tree / point).mkdir(parents=True)
        for place in ("lib", "cache", "log"):
            (tree / "var" / place / name).mkdir()
        contents = {
            "share/version": f"{name} {version}\n",
            "share/mode": f"{mode}\n",
            "etc/hosts": "",
            "etc/resolv.conf": "",
            "etc/passwd": "",
            "etc/group": "",
            **(files or {}),
        }
        for path, content in contents.items():
            if path in without:
                continue
            (tree / path).parent.mkdir(parents=True, exist_ok=True)
            (tree / path).write_text(content)
            (tree / path).chmod(0o644)
        (tree / "bin").mkdir()
        shutil.copy(program, tree / "bin/server")
        (tree / "bin/server").chmod(0o755)
        values: dict[str, object] = {
            "name": name,
            "version": version,
            "release": release,
            "created": 1_700_000_000,
            "services": services or (web(name),),
        }
        described = Manifest(format=1, **(values | more))  # type: ignore[arg-type]
        with encode.encode(tree, described, spool=Path(scratch), level=1) as made:
            statement = encode_statement(made.statement)
            signed = Signed(statement, (sshsig.sign_blob(statement, KEY),))
            file = directory / f"{name}-{version}.bundle"
            encode.write_bundle_file(
                file, signed=signed, manifest_frame=made.manifest_frame, frames=made.payload
            )
            return file
