"""Generations: which version of each app a node runs, numbered, each with its parent.

A generation is a directory of links with a record. It appears with one rename and is never
changed, but for its outcome; which one is current is one symbolic link, and nothing else.
"""

import contextlib
import json
import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from appbundle.errors import CorruptError, NoSpaceError, NotFoundError
from appbundle.layout import COMMANDS, Layout
from appbundle.names import AppName, BundleRef, Version
from appbundle.store import commands
from appbundle.store.commands import Commands
from appbundle.system import files

RECORD = "generation.json"
"""No app has this name: names hold no dot."""
READY = "current.link"
"""A link to the generation's own number, which one rename turns into `generations/current`."""

Apps = Mapping[AppName, Version]


@dataclass(frozen=True, slots=True, kw_only=True)
class Generation:
    """What a node runs, or ran.

    Args:
        number: From 1 up; never used again.
        parent: The generation that was current when this one was made; None for the first.
        created_at: Seconds since the epoch.
        reason: What was asked for: `install nova-api 34.0.0`.
        by: Who asked: a user's name.
        outcome: `ok`, or why it failed.
        apps: Its versions.
        origins: For each app that was sent back by itself, the generation whose version it has:
            where the next step back starts.
        serving: The apps whose version declares services.
        configuration: For each app with settings, templates or tasks a digest of all that was made
            of them; equal if nothing differs.
        settings: What an administrator has set, by app; never a secret.
        taken: The values of settings that are those of other apps' ones, by app.
        secrets: For each secret of an app where it is from: `set 3` or `made 3`, in generation 3;
            `of made 3` if it is made of another app's.
        commands: What apps export: program and first arguments, by app and name.
        appb: How their launchers start appb.
    """

    number: int
    parent: int | None
    created_at: int
    reason: str
    by: str
    outcome: str
    apps: dict[AppName, Version]
    origins: dict[AppName, int] = field(default_factory=dict)
    serving: tuple[AppName, ...] = ()
    configuration: dict[AppName, str] = field(default_factory=dict)
    settings: dict[AppName, dict[str, str]] = field(default_factory=dict)
    taken: dict[AppName, dict[str, str]] = field(default_factory=dict)
    secrets: dict[AppName, dict[str, str]] = field(default_factory=dict)
    commands: dict[AppName, dict[str, list[str]]] = field(default_factory=dict)
    appb: list[str] = field(default_factory=list)

    def given(self, app: AppName) -> dict[str, str]:
        """The settings of an app that do not have their defaults."""
        return self.settings.get(app, {}) | self.taken.get(app, {})


def current_number(layout: Layout) -> int | None:
    """The number of the generation that this node runs; None before the first."""
    try:
        return int(os.readlink(layout.current_generation))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise CorruptError(f"{layout.current_generation} is not a link to a generation") from error


def current(layout: Layout) -> Generation | None:
    """The generation that this node runs; None before the first."""
    number = current_number(layout)
    return None if number is None else read(layout, number)


def current_version(layout: Layout, name: AppName) -> Version | None:
    """The version of one app that this node runs."""
    try:
        return Version(os.path.basename(os.readlink(layout.current_generation / name)))
    except OSError:
        return None


def read(layout: Layout, number: int) -> Generation:
    """Read one generation's record.

    Raises:
        NotFoundError: There is no such generation (any more).
        CorruptError: Its record is damaged.
    """
    path = layout.generations / str(number) / RECORD
    try:
        with open(path, "rb") as file:
            record: dict[str, Any] = json.load(file)
    except FileNotFoundError as error:
        raise NotFoundError(
            f"there is no generation {number}", hint="appb history shows which there are"
        ) from error
    except ValueError as error:
        raise CorruptError(f"{path} is damaged: {error}") from error
    try:
        return Generation(**{**record, "serving": tuple(record.get("serving", ()))})
    except (AttributeError, TypeError) as error:
        raise CorruptError(f"{path} is not a generation's record") from error


def numbers(layout: Layout) -> list[int]:
    """The numbers of all generations on disk, ascending."""
    try:
        names = os.listdir(layout.generations)
    except FileNotFoundError:
        return []
    return sorted(int(name) for name in names if name.isdecimal())


def every(layout: Layout) -> list[Generation]:
    """All generations on disk, oldest first."""
    return [read(layout, number) for number in numbers(layout)]


def plan(
    layout: Layout,
    *,
    apps: Apps,
    reason: str,
    by: str,
    created_at: int,
    serving: Collection[AppName] = (),
    configured: Collection[AppName] = (),
    origins: Mapping[AppName, int] | None = None,
    exported: Commands | None = None,
    appb: Sequence[str] = (),
) -> Generation:
    """Say what the next generation would be; nothing is written.

    Args:
        apps: The versions; they need not be published yet.
        serving: Those of them that declare services.
        configured: Those that declare settings, templates or tasks.
        origins: As in `Generation`, for the apps that go back now; other apps keep theirs while
            their version stays.
        exported: The commands of those that have any.
        appb: How to start appb for these.

    Raises:
        ConflictError: These commands cannot be together.
    """
    found = {
        name: {each: list(argv) for each, argv in own.items()}
        for name, own in sorted((exported or {}).items())
    }
    commands.check(layout, found)
    known = numbers(layout)
    before = current(layout)
    inherited = {
        name: origin
        for name, origin in (before.origins if before else {}).items()
        if before and apps.get(name) == before.apps.get(name)
    }
    return Generation(
        number=(known[-1] if known else 0) + 1,
        parent=before.number if before else None,
        created_at=created_at,
        reason=reason,
        by=by,
        outcome="ok",
        apps=dict(sorted(apps.items())),
        origins=inherited | dict(origins or {}),
        serving=tuple(sorted(serving)),
        configuration=dict.fromkeys(sorted(configured), ""),
        commands=found,
        appb=list(appb),
    )


def prepare(generation: Generation, stage: Path) -> Path:
    """Write a planned generation into a stage; it counts for nothing until `commit`.

    The caller makes it durable, with everything else of its transaction or by `sync`.

    Args:
        stage: A directory of this transaction.
    """
    directory = stage / f"generation-{files.random_name()}"
    os.mkdir(directory)
    os.chmod(directory, files.DIRECTORY_MODE)
    with files.directory(directory) as fd:
        for name, version in generation.apps.items():
            os.symlink(_link_target(name, version), name, dir_fd=fd)
        os.symlink(str(generation.number), READY, dir_fd=fd)
    commands.write(directory, generation.number, generation.commands, generation.appb)
    files.write_new(directory / RECORD, _encode(generation))
    return directory


def _link_target(name: AppName, version: Version) -> str:
    return f"../../../{name}/{version}"


def record(generation: Generation, directory: Path) -> None:
    """Write a prepared generation's record anew, before it is durable."""
    os.unlink(directory / RECORD)
    files.write_new(directory / RECORD, _encode(generation))


def sync(directory: Path) -> None:
    """Make a prepared generation durable by itself, where no larger flush does."""
    for here, _, names in os.walk(directory):
        for name in names:
            path = os.path.join(here, name)
            if not os.path.islink(path):
                with open(path, "rb") as file:
                    os.fsync(file.fileno())
        files.fsync_directory(here)


def commit(layout: Layout, generation: Generation, directory: Path) -> None:
    """Give a prepared, durable generation its number."""
    if generation.commands:
        commands.link(layout)
    os.rename(directory, layout.generations / str(generation.number))
    files.fsync_directory(layout.generations)


def activate(layout: Layout, number: int) -> None:
    """Make a generation the current one: one rename for all apps of the node. ★

    The link that is renamed lies ready in the generation, so that this takes neither a block nor
    an inode: whoever wants to go back on a full disk can.
    """
    ready = layout.generations / str(number) / READY
    try:
        os.rename(ready, layout.current_generation)
        files.fsync_directory(layout.generations)
    except FileNotFoundError:
        files.replace_link(layout.current_generation, str(number))
    with contextlib.suppress(OSError):
        os.symlink(str(number), ready)


def record_outcome(layout: Layout, generation: Generation, outcome: str) -> None:
    """Write down how a generation turned out, if there is room: going back needs none."""
    changed = _encode(replace(generation, outcome=outcome))
    try:
        files.write_durably(layout.generations / str(generation.number) / RECORD, changed)
    except OSError as error:
        said = files.translate_os_error(error, f"writing to generation {generation.number}")
        if not isinstance(said, NoSpaceError):
            raise said from error


def _encode(generation: Generation) -> bytes:
    values = asdict(generation)
    # Most nodes have no settings, and no need to read of them.
    for name in ("serving", "configuration", "settings", "taken", "secrets", "commands", "appb"):
        if not values[name]:
            del values[name]
    return json.dumps(values, indent=1).encode() + b"\n"


def require_version(layout: Layout, ref: BundleRef) -> Version:
    """Check that a version is on disk, without reading anything of it.

    Raises:
        NotFoundError: It is not.
    """
    if ref.version is None or not _is_on_disk(layout, ref.name, ref.version):
        raise NotFoundError(f"{ref} is not installed", hint="appb list shows what is")
    return ref.version


def missing_versions(layout: Layout, generation: Generation) -> list[str]:
    """The versions of a generation that are no longer on disk, as `NAME VERSION`."""
    return [
        f"{name} {version}"
        for name, version in generation.apps.items()
        if not _is_on_disk(layout, name, version)
    ]


def _is_on_disk(layout: Layout, name: AppName, version: Version) -> bool:
    """Whether there is a version; a directory without a description is somebody else's."""
    return os.path.lexists(layout.about(name, version))


def wrong_entries(layout: Layout, generation: Generation) -> list[tuple[str, str]]:
    """Compare the links that services follow, and commands, with the generation's record.

    Returns:
        Paths relative to `/apps`, each with what it is instead of what it should be.
    """
    home = f".appb/generations/{generation.number}"
    expected = {
        f"{home}/{name}": _link_target(name, version) for name, version in generation.apps.items()
    }
    expected |= {f"{name}/current": current_link_target(name) for name in generation.apps}
    if generation.commands:
        expected[COMMANDS] = commands.LINK
    directory = layout.apps / home
    return [
        *(
            (path, f"{found} instead of a link to {target}")
            for path, target in expected.items()
            if (found := _what_is_at(layout.apps / path)) != f"a link to {target}"
        ),
        *(
            (f"{home}/{path}", problem)
            for path, problem in commands.wrong(
                directory, generation.number, generation.commands, generation.appb
            )
        ),
    ]


def current_link_target(name: AppName) -> str:
    """Where `/apps/NAME/current` points, always: to the app's link in the current generation."""
    return f"../.appb/generations/current/{name}"


def _what_is_at(path: Path) -> str:
    try:
        return f"a link to {os.readlink(path)}"
    except FileNotFoundError:
        return "missing"
    except OSError:
        return "not a link"
