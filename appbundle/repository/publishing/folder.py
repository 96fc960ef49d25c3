"""A repository's folder as its publisher keeps it, and what stands beside it.

    metadata/N.ROLE.json timestamp.json     what is served; docs/repository-format.md
    targets/…
    pending/ROLE.json                       metadata that wait for further signatures
    .staging/                               files that are being written

Beside it, never in it: `FOLDER.online-key`, and `FOLDER.lock`.
"""

import hashlib
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from appbundle.names import Digest
from appbundle.repository.release import stored_path
from appbundle.system import files

_NO_DIGEST = Digest("0" * 64)


@dataclass(frozen=True, slots=True)
class Folder:
    """The paths of one repository.

    Args:
        path: Absolute.
        online_key: The private key of snapshot, timestamp and catalog.
    """

    path: Path
    online_key: Path

    @property
    def metadata(self) -> Path:
        return self.path / "metadata"

    @property
    def targets(self) -> Path:
        return self.path / "targets"

    @property
    def pending(self) -> Path:
        return self.path / "pending"

    @property
    def staging(self) -> Path:
        return self.path / ".staging"

    @property
    def lock(self) -> Path:
        return self.path.with_name(f"{self.path.name}.lock")

    @property
    def timestamp(self) -> Path:
        return self.metadata / "timestamp.json"

    @property
    def next_online_key(self) -> Path:
        """The online key of a root that is not published yet."""
        return self.online_key.with_name(f"{self.online_key.name}.next")

    def role(self, name: str, version: int) -> Path:
        """The file of one version of a role; of the timestamp there is only one."""
        return self.timestamp if name == "timestamp" else self.metadata / f"{version}.{name}.json"

    def proposal(self, name: str) -> Path:
        """The file of a role's next version while signatures are missing."""
        return self.pending / f"{name}.json"

    def target(self, target: str, sha256: Digest) -> Path:
        """The file of a target."""
        return self.path / stored_path(target, sha256)


def open_folder(path: str, online_key: str | None) -> Folder:
    """Say where a repository and its online key are; touches nothing."""
    folder = Path(os.path.abspath(path))
    beside = folder.with_name(f"{folder.name}.online-key")
    return Folder(folder, Path(os.path.abspath(online_key)) if online_key else beside)


def prepare(folder: Folder) -> None:
    """Make what is missing of the directories, and remove what a killed predecessor has left."""
    if files.make_directory(folder.path):
        files.fsync_directory(folder.path.parent)
    for each in (folder.metadata, folder.targets, folder.pending):
        files.make_directory(each)
    files.make_directory(folder.staging, mode=files.PRIVATE_MODE)
    for entry in os.scandir(folder.staging):
        os.unlink(entry.path)
    files.fsync_directory(folder.path)


def put(folder: Folder, path: Path, content: bytes) -> None:
    """Put a file of the folder in place, durably."""
    with _staging(folder) as staged:
        files.write_new(staged, content, sync=True)
        os.rename(staged, path)
    files.fsync_directory(path.parent)


def put_target(folder: Folder, target: str, pieces: Iterable[bytes]) -> tuple[int, Digest]:
    """Put a target's file in place, durably, under the name that its content gives it.

    Args:
        target: TUF's name of it.
        pieces: Its content; an error of theirs leaves nothing behind.

    Returns:
        Its size and digest.
    """
    directory = folder.target(target, _NO_DIGEST).parent
    if files.make_directory(directory):
        files.fsync_directory(directory.parent)
    digest, size = hashlib.sha256(), 0
    with _staging(folder) as staged:
        with open(staged, "xb") as file:
            os.fchmod(file.fileno(), files.FILE_MODE)
            for piece in pieces:
                file.write(piece)
                digest.update(piece)
                size += len(piece)
            file.flush()
            os.fsync(file.fileno())
        sha256 = Digest(digest.hexdigest())
        os.rename(staged, folder.target(target, sha256))
    files.fsync_directory(directory)
    return size, sha256


@contextmanager
def _staging(folder: Folder) -> Iterator[Path]:
    """Give the path of a new file; whatever is still there at the end is removed."""
    staged = folder.staging / files.random_name()
    try:
        yield staged
    finally:
        staged.unlink(missing_ok=True)


def remove(path: Path) -> None:
    """Remove a file durably, if it is there."""
    try:
        path.unlink()
    except FileNotFoundError:
        return
    files.fsync_directory(path.parent)


def first_root_sha256(folder: Folder) -> Digest:
    """The digest by which nodes know the repository."""
    return Digest(hashlib.sha256(folder.role("root", 1).read_bytes()).hexdigest())
