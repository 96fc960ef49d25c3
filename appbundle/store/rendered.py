"""What a generation has rendered for an app: its services and tasks filled in, and its files.

`.rendered/APP.json` and, by their paths in the tree, `.rendered/APP/…`. What is as in the
generation before is a hard link to it.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from appbundle.bundle import filling
from appbundle.bundle.service_rules import TASK
from appbundle.bundle.services import Service
from appbundle.bundle.tasks import Task
from appbundle.errors import CorruptError
from appbundle.layout import ABOUT, BUNDLE_DIR, RENDERED, SECRETS, Layout
from appbundle.names import AppName
from appbundle.system import files

PRIVATE_FILE_MODE = 0o400
MARK = f"{BUNDLE_DIR}/{ABOUT}"
"""A file of every tree over which a generation's own is shown, so that a process can be asked
which generation's configuration it has."""


class Filled(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An app's services and tasks, settings filled in.

    Args:
        services: Its services, and its tasks as services that are named `task-NAME`.
        tasks: Its tasks.
        secrets: The names of its secrets.
    """

    services: tuple[Service, ...] = ()
    tasks: tuple[Task, ...] = ()
    secrets: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Output:
    """A rendered file.

    Args:
        target: Its path in the tree.
        content: Its bytes.
        is_private: Nobody but the service's user may read it.
    """

    target: str
    content: bytes
    is_private: bool = False


def encode(services: Sequence[Service], tasks: Sequence[Task], secrets: Sequence[str]) -> bytes:
    """Write what `Filled` says."""
    return msgspec.json.encode(
        Filled(
            services=(*services, *map(filling.as_service, tasks)),
            tasks=tuple(tasks),
            secrets=tuple(secrets),
        )
    )


def write(
    directory: Path,
    app: AppName,
    record: bytes,
    outputs: Sequence[Output],
    *,
    owner: int | None,
    previous: Path | None,
) -> None:
    """Write an app's part into a generation that is prepared.

    Args:
        directory: The generation in the making.
        record: From `encode`.
        owner: The number of the user that private files belong to; None for our own.
        previous: The directory of the generation before.
    """
    top = directory / RENDERED
    files.make_directory(top)
    old = previous / RENDERED if previous else None
    _put(top / f"{app}.json", record, old and old / f"{app}.json")
    home, old_home = top / app, old and old / app
    is_private = any(each.is_private for each in outputs)
    # What the services see is bound from here by root; others need not come near a secret.
    files.make_directory(home, mode=files.PRIVATE_MODE if is_private else files.DIRECTORY_MODE)
    for each in (Output(MARK, record), *outputs):
        _make_parents(home, each.target)
        _put(
            home / each.target,
            each.content,
            old_home and old_home / each.target,
            owner=owner if each.is_private else None,
            mode=PRIVATE_FILE_MODE if each.is_private else files.FILE_MODE,
        )


def _make_parents(home: Path, target: str) -> None:
    here = home
    for part in target.split("/")[:-1]:
        here = here / part
        files.make_directory(here)


def _put(
    path: Path,
    content: bytes,
    old: Path | None,
    *,
    mode: int = files.FILE_MODE,
    owner: int | None = None,
) -> None:
    uid = os.geteuid() if owner is None else owner
    if old is not None and _is_same(old, content, mode=mode, uid=uid):
        with contextlib.suppress(OSError):
            os.link(old, path)
            return
    files.write_new(path, content, mode=mode)
    if owner is not None:
        os.chown(path, owner, -1)


def _is_same(path: Path, content: bytes, *, mode: int, uid: int) -> bool:
    try:
        status = os.lstat(path)
        known = (status.st_mode & 0o7777, status.st_uid, status.st_size)
        return known == (mode, uid, len(content)) and path.read_bytes() == content
    except OSError:
        return False


def link(directory: Path, previous: Path, app: AppName) -> None:
    """Take an app's part, and its secrets, from the generation before as they are."""
    for place, name in ((RENDERED, f"{app}.json"), (RENDERED, app), (SECRETS, app)):
        source = previous / place / name
        if os.path.lexists(source):
            mode = files.PRIVATE_MODE if place == SECRETS else files.DIRECTORY_MODE
            files.make_directory(directory / place, mode=mode)
            _link_tree(source, directory / place / name)


def _link_tree(source: Path, target: Path) -> None:
    if not source.is_dir():
        os.link(source, target, follow_symlinks=False)
        return
    files.make_directory(target, mode=os.stat(source).st_mode & 0o7777)
    for entry in os.scandir(source):
        _link_tree(Path(entry.path), target / entry.name)


def read(layout: Layout, generation: int, app: AppName) -> Filled:
    """Read an app's services and tasks as a generation has them.

    Raises:
        CorruptError: They are gone or damaged.
    """
    path = layout.rendered(generation) / f"{app}.json"
    try:
        found = msgspec.json.decode(path.read_bytes(), type=Filled)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise CorruptError(
            f"{path} is damaged: {error}", hint="appb switch --to another generation"
        ) from error
    services = tuple(each for each in found.services if not each.name.startswith(TASK))
    return msgspec.structs.replace(found, services=services)


def overlays(layout: Layout, generation: int, app: AppName) -> Iterator[tuple[str, str]]:
    """The rendered files of an app: paths below the generation's directory, and in the tree."""
    home = layout.rendered(generation) / app
    for here, directories, names in os.walk(home):
        directories.sort()
        for name in sorted(names):
            target = os.path.relpath(os.path.join(here, name), home)
            yield f"{RENDERED}/{app}/{target}", f"/{target}"
