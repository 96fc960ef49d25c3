"""Our client behind the command line that the tuf-conformance suite calls: CLIENT-CLI.md there.

Arguments: --metadata-dir DIR [--metadata-url URL] [--target-name PATH]... [--target-dir DIR]
[--target-base-url URL] init ROOT | refresh | download
"""

import argparse
import shutil
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from tuf.api.exceptions import LengthOrHashMismatchError
from tuf.api.metadata import TargetFile

from appbundle.errors import AppbError, CorruptError, NotFoundError
from appbundle.repository.transports.http_client import HttpClient
from appbundle.repository.transports.ranges import check_status
from appbundle.repository.trusted import METADATA, Trusted, trusted


@dataclass(frozen=True)
class Server:
    """One of the suite's two folders. Names of roles come quoted, and are not quoted again."""

    url: str
    client: HttpClient = field(default_factory=HttpClient)

    @property
    def name(self) -> str:
        """Its address."""
        return self.url

    def read(self, path: str, *, limit: int) -> bytes:
        """Read a file whole."""
        url = f"{self.url.rstrip('/')}/{path.removeprefix(f'{METADATA}/')}"
        with self.client.ask("GET", url) as response:
            check_status(response, url)
            return response.read(limit=limit)

    def read_stretches(self, *_: Any, **__: Any) -> Any:
        """The suite asks for no parts."""
        raise NotImplementedError


def main() -> int:
    """Do what the suite asks for; 1 if anything is refused."""
    parser = argparse.ArgumentParser()
    for name in ("metadata-dir", "metadata-url", "target-dir", "target-base-url"):
        parser.add_argument(f"--{name}", default="")
    parser.add_argument("--target-name", action="append", default=[])
    parser.add_argument("command", choices=("init", "refresh", "download"))
    parser.add_argument("root", nargs="?")
    asked = parser.parse_args()
    cache = Path(asked.metadata_dir)
    pinned = cache.parent / "pinned"
    if asked.command == "init":
        shutil.copyfile(asked.root, pinned)
        shutil.copyfile(asked.root, cache / "root.json")
        return 0
    server = Server(asked.metadata_url)
    try:
        with trusted(cache, pinned.read_bytes(), now=int(time.time())) as metadata:
            metadata.refresh(server)
            for path in asked.target_name:
                target = find(metadata, path, server)
                fetch(metadata, target, Server(asked.target_base_url), Path(asked.target_dir))
    except AppbError as error:
        print(f"refused: {error.what}")
        return 1
    finally:
        _show_newest_root(cache)
    return 0


def find(metadata: Trusted, path: str, server: Server) -> TargetFile:
    """Find any target, as appb does only for those of an app's own role."""
    inner: Any = metadata
    with inner._translated(server):
        found: TargetFile | None = inner._updater.get_targetinfo(path)
    if found is None:
        raise NotFoundError(f"there is no {path}")
    return found


def fetch(metadata: Trusted, target: TargetFile, server: Server, directory: Path) -> None:
    """Fetch a target, unless it is there already."""
    inner: Any = metadata
    place = directory / quote(target.path, "")
    if place.exists() and is_right(target, place.read_bytes()):
        return
    folder, slash, name = target.path.rpartition("/")
    if inner._updater._trusted_set.root.consistent_snapshot:
        name = f"{next(iter(target.hashes.values()))}.{name}"
    content = server.read(f"{folder}{slash}{name}", limit=target.length)
    if not is_right(target, content):
        raise CorruptError(f"{target.path} is not what its metadata say")
    place.write_bytes(content)


def is_right(target: TargetFile, content: bytes) -> bool:
    """Whether these are a target's bytes."""
    try:
        target.verify_length_and_hashes(content)
    except LengthOrHashMismatchError:
        return False
    return True


def _show_newest_root(cache: Path) -> None:
    """The suite looks for the newest root where appb has no use for one."""
    roots = list((cache / "root_history").glob("*.root.json"))
    if roots:
        newest = max(roots, key=lambda each: int(each.name.partition(".")[0]))
        shutil.copyfile(newest, cache / "root.json")


if __name__ == "__main__":
    sys.exit(main())
