"""Which instances exist, as the backend writes it and the holder reads it; and which are off."""

from __future__ import annotations

from collections.abc import Collection, Iterator

import msgspec

from appbundle.bundle.services import Service
from appbundle.errors import CorruptError
from appbundle.names import AppName
from appbundle.services.embedded.places import Places, line_of
from appbundle.services.model import Instance, Key
from appbundle.system import files


class Defined(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An instance that exists.

    Args:
        app: Its app.
        service: Its declaration.
        version: Of a second instance; the lasting one runs what is current.
        generation: Whose configuration a second instance has.
        shared: A second instance that is on the sockets of the lasting one.
    """

    app: str
    service: Service
    version: str = ""
    generation: int = 0
    shared: bool = False

    @property
    def key(self) -> Key:
        """Which service it is of."""
        return Key(AppName(self.app), self.service.name)

    @property
    def instance(self) -> Instance:
        """Which instance it is."""
        return Instance(self.key, is_next=bool(self.version))


Definitions = dict[Instance, Defined]


def read(places: Places) -> Definitions:
    """Read what exists; nothing if no supervisor was ever started."""
    try:
        raw = places.definitions.read_bytes()
    except FileNotFoundError:
        return {}
    try:
        found = msgspec.json.decode(raw, type=list[Defined])
    except msgspec.DecodeError as error:
        raise CorruptError(
            f"{places.definitions}: {error}", hint="end appb supervise and start it again"
        ) from error
    return {each.instance: each for each in found}


def write(places: Places, defined: Definitions) -> None:
    """Replace what exists, with one rename."""
    files.write_durably(places.definitions, msgspec.json.encode(list(defined.values())))


def read_disabled(places: Places) -> set[str]:
    """Services that are not started at boot, as `APP/SERVICE`."""
    try:
        return set(places.disabled.read_text().split())
    except FileNotFoundError:
        return set()


def write_disabled(places: Places, lines: Collection[str]) -> None:
    """Replace them."""
    if set(lines) != read_disabled(places):
        text = "".join(f"{line}\n" for line in sorted(lines))
        files.write_durably(places.disabled, text.encode())


def enabled(places: Places, defined: Definitions) -> Iterator[Defined]:
    """The lasting instances that are started at boot."""
    off = read_disabled(places)
    for instance, each in defined.items():
        if not instance.is_next and line_of(instance.key) not in off:
            yield each
