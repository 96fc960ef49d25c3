"""What a node should be after a sequence of commands, in a few lines and without any file.

A command either gives the next model or is refused. The model remembers for each app of a
generation the versions by which it came there; going back with one app takes the last one off.
"""

from dataclasses import dataclass, field, replace

from appbundle.errors import AppbError, ConflictError, DowngradeError, NotFoundError

Key = tuple[str, str]
"""App and version; a version is also its release number."""


class Refused(Exception):
    """A command that changes nothing; the argument is the class of its error."""

    @property
    def error(self) -> type[AppbError]:
        """The class."""
        error: type[AppbError] = self.args[0]
        return error


@dataclass(frozen=True)
class Past:
    """A generation.

    Args:
        ways: For each app the versions by which it came here; the last one is what it runs.
    """

    parent: int | None
    ways: dict[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def apps(self) -> dict[str, str]:
        """What it runs."""
        return {name: way[-1] for name, way in self.ways.items()}

    @property
    def keys(self) -> set[Key]:
        """The same as pairs."""
        return set(self.apps.items())


@dataclass(frozen=True)
class Model:
    """A node.

    Args:
        versions: On disk, with the time when each came.
        pasts: All generations.
        highest: The highest number that a generation ever had.
        floors: For each app the highest release ever accepted.
    """

    versions: dict[Key, int] = field(default_factory=dict)
    pasts: dict[int, Past] = field(default_factory=dict)
    current: int | None = None
    highest: int = 0
    pins: frozenset[Key] = frozenset()
    floors: dict[str, int] = field(default_factory=dict)

    @property
    def now(self) -> Past:
        """The current generation, or an empty one."""
        return self.pasts[self.current] if self.current is not None else Past(None)

    def _next(self, ways: dict[str, tuple[str, ...]]) -> "Model":
        number = self.highest + 1
        pasts = {**self.pasts, number: Past(self.current, ways)}
        return replace(self, pasts=pasts, current=number, highest=number)

    def _moved(self, wanted: dict[str, str]) -> "Model":
        ways = self.now.ways
        moved = {
            name: (*ways.get(name, ()), version)
            for name, version in wanted.items()
            if self.now.apps.get(name) != version
        }
        return self._next({**ways, **moved}) if moved else self

    def _require(self, keys: set[Key]) -> None:
        if not keys <= self.versions.keys():
            raise Refused(NotFoundError)

    def install(
        self, wanted: dict[str, str], time: int, *, switch_to: bool, allow_downgrade: bool
    ) -> "Model":
        """Every bundle is there afterwards; if wanted, all of them are current."""
        for key in wanted.items():
            stays = key in self.versions and (not switch_to or key in self.now.keys)
            if not (allow_downgrade or stays) and int(key[1]) < self.floors.get(key[0], 0):
                raise Refused(DowngradeError)
        floors = {name: max(int(v), self.floors.get(name, 0)) for name, v in wanted.items()}
        versions = {**dict.fromkeys(wanted.items(), time), **self.versions}
        done = replace(self, versions=versions, floors={**self.floors, **floors})
        return done._moved(wanted) if switch_to else done

    def switch(self, name: str, version: str) -> "Model":
        """A version on disk becomes current."""
        if (name, version) not in self.now.keys:
            self._require({(name, version)})
        return self._moved({name: version})

    def switch_to(self, number: int | None) -> "Model":
        """An earlier generation becomes current, if all of it is there."""
        if number not in self.pasts:
            raise Refused(NotFoundError)
        self._require(self.pasts[number].keys)
        return replace(self, current=number)

    def previous_of(self, name: str) -> "Model":
        """One app goes back the way that it came."""
        way = self.now.ways.get(name, ())[:-1]
        if not way:
            raise Refused(NotFoundError)
        self._require({(name, way[-1])})
        return self._next({**self.now.ways, name: way})

    def remove(self, name: str, version: str | None) -> "Model":
        """A version goes, or an app; but not what is pinned or, alone, current."""
        going = {key for key in self.versions if key[0] == name and version in (None, key[1])}
        if not going:
            raise Refused(NotFoundError)
        if going & self.pins or (version is not None and (name, version) in self.now.keys):
            raise Refused(ConflictError)
        model = self
        if name in self.now.apps and version is None:
            model = self._next({app: way for app, way in self.now.ways.items() if app != name})
        return model._without(going)

    def collect(self, keep: int) -> "Model":
        """What nobody needs goes, but for the newest versions of each app."""
        parent = self.pasts.get(self.now.parent or 0, Past(None))
        kept = self.now.keys | parent.keys | self.pins
        for name in {key[0] for key in self.versions}:
            mine = sorted((time, key) for key, time in self.versions.items() if key[0] == name)
            kept |= {key for _, key in mine[max(0, len(mine) - keep) :]}
        return self._without(self.versions.keys() - kept)

    def _without(self, going: set[Key]) -> "Model":
        """Take versions away, and the generations that had them but for the newest."""
        newest = max(self.pasts, default=0)
        return replace(
            self,
            versions={key: time for key, time in self.versions.items() if key not in going},
            pasts={
                number: past
                for number, past in self.pasts.items()
                if number in (self.current, newest) or not past.keys & going
            },
        )

    def pin(self, name: str, version: str) -> "Model":
        """A version is kept."""
        self._require({(name, version)})
        return replace(self, pins=self.pins | {(name, version)})

    def unpin(self, name: str, version: str) -> "Model":
        """A version is let go."""
        if (name, version) not in self.pins:
            raise Refused(NotFoundError)
        return replace(self, pins=self.pins - {(name, version)})
