"""Any sequence of commands, deaths among them, leaves a node as a simple model says.

A death is a child process that ends itself before one of the calls that change a disk. After it
the node must be what it was, what it was to become, or between the two where a command does several
things; which of them is then what the model goes on with.
"""

import atexit
import contextlib
import functools
import os
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from appbundle.errors import AppbError, NotFoundError
from appbundle.flows import install, listing, remove, switch
from appbundle.flows.context import Context
from appbundle.names import AppName, parse_ref
from appbundle.store import pins
from appbundle.store import settings as node_settings
from appbundle.store.retention import Policy
from tests.crash.support import NOW, make_bundle, memory_directory, new_node

from .effort import examples
from .model import Model, Refused

NAMES = ["one", "two"]
VERSIONS = ["1", "2", "3"]
ALL = [(name, version) for name in NAMES for version in VERSIONS]
DIED = 9

names = st.sampled_from(NAMES)
versions = st.sampled_from(VERSIONS)
deaths = st.none() | st.none() | st.integers(1, 30) | st.integers(31, 90)
"""Before which call a command dies; mostly it does not."""

# Without mkdir: most of its calls make the pool's shards, which are there already.
_CALLS = frozenset(
    {"chmod", "close", "fchmod", "fork", "fsync", "ftruncate", "link", "open", "pwrite"}
    | {"rename", "rmdir", "symlink", "unlink", "write"}
)
_LIBC = frozenset({"rename_noreplace", "syncfs"})


@functools.cache
def bundles() -> dict[tuple[str, str], Path]:
    """Every bundle that is ever installed; one file is shared by all, one is a version's own."""
    stack = contextlib.ExitStack()
    place = stack.enter_context(memory_directory())
    made = {}
    for name in NAMES:
        for version in VERSIONS:
            tree = {"a/own": f"{name} {version}".encode(), "shared": b"shared", "empty": b""}
            made[name, version] = make_bundle(place, name, version, release=int(version), tree=tree)
    atexit.register(stack.close)
    return made


def die_before(count: int) -> None:
    """Let this process, and those that it forks, end before so many calls were made."""

    def profile(frame: FrameType, event: str, argument: Any) -> None:
        nonlocal count
        if event == "c_call":
            counts = argument.__name__ in _CALLS and argument.__module__ == "posix"
        else:
            counts = event == "call" and frame.f_code.co_name in _LIBC
        count -= counts
        if counts and count == 0:
            os._exit(DIED)

    threading.setprofile(profile)
    sys.setprofile(profile)


class Commands(RuleBasedStateMachine):
    """A node, a model of it, and commands for both."""

    def __init__(self) -> None:
        super().__init__()
        self.place = contextlib.ExitStack()
        self.node = new_node(self.place.enter_context(memory_directory()) / "node")
        self.model = Model()
        self.time = NOW
        self.tidy = True

    def teardown(self) -> None:
        """Remove the node."""
        self.place.close()

    def do(
        self,
        act: Callable[[Context], object],
        expect: Callable[[Model], Model],
        death: int | None,
        *,
        may_miss: bool = False,
    ) -> None:
        """Do something to the node and to the model, and compare what came of it.

        Args:
            death: Before which call the command dies.
            may_miss: It may also find that something is gone that the model knows.
        """
        self.time += 1
        context = self.node.context(self.time)
        after = self.model
        refusals: tuple[type[AppbError], ...] = (NotFoundError,) if may_miss else ()
        try:
            after = expect(self.model)
        except Refused as refused:
            refusals = (refused.error,)
        if death is not None and _dies(lambda: act(context), death, refusals):
            self.tidy = False
            self.model = self.found(after)
            return
        if death is None:
            try:
                act(context)
            except refusals:
                return
        self.model = after
        assert self.node.leftovers() == []

    def found(self, after: Model) -> Model:
        """Take up what a death left: old, new, or between where a command does several things."""
        before, seen = self.model, self.seen()
        both = Model(
            versions={**before.versions, **after.versions},
            pasts={**before.pasts, **after.pasts},
        )
        assert seen.current in (before.current, after.current)
        for old, new, real in (
            (before.versions.keys(), after.versions.keys(), seen.versions),
            (before.pasts.keys(), after.pasts.keys(), seen.pasts.keys()),
            (before.pins, after.pins, seen.pins),
            (before.floors.items(), after.floors.items(), seen.floors.items()),
        ):
            assert old & new <= real <= old | new
        return Model(
            versions={key: both.versions[key] for key in seen.versions},
            pasts={number: both.pasts[number] for number in seen.pasts},
            current=seen.current,
            highest=max(before.highest, *seen.pasts) if seen.pasts else 0,
            pins=seen.pins,
            floors=seen.floors,
        )

    def seen(self) -> "Seen":
        """Look at the node."""
        layout = self.node.layout
        current, history = listing.history(layout)
        floors = {name: node_settings.accepted_release(layout, AppName(name)) for name in NAMES}
        return Seen(
            versions=frozenset(self.node.looks().versions),
            pasts={each.number: (each.parent, each.apps) for each in history},
            current=current,
            pins=frozenset(pins.pinned(layout)),
            floors={name: floor for name, floor in floors.items() if floor >= 0},
        )

    @initialize(wanted=st.permutations(ALL))
    def start(self, wanted: list[tuple[str, str]]) -> None:
        """Begin with a node that has come some way already."""
        for name, version in wanted[:4]:
            self._install({name: version}, switches=True, back=True, death=None)

    def any_key(self, data: st.DataObject) -> tuple[str, str]:
        """An app and a version: mostly one that is there."""
        key: tuple[str, str] = data.draw(
            st.sampled_from([*sorted(self.model.versions) * 4, *ALL]), label="version"
        )
        return key

    @rule(key=st.sampled_from(ALL), switches=st.booleans(), back=st.booleans(), death=deaths)
    def install(self, key: tuple[str, str], switches: bool, back: bool, death: int | None) -> None:
        """`appb install FILE [--no-switch] [--allow-downgrade]`."""
        self._install({key[0]: key[1]}, switches=switches, back=back, death=death)

    @rule(one=versions, two=versions, back=st.booleans(), death=deaths)
    def install_both(self, one: str, two: str, back: bool, death: int | None) -> None:
        """`appb install FILE FILE [--allow-downgrade]`."""
        self._install({"one": one, "two": two}, switches=True, back=back, death=death)

    def _install(
        self, wanted: dict[str, str], *, switches: bool, back: bool, death: int | None
    ) -> None:
        files = [str(bundles()[key]) for key in wanted.items()]
        self.do(
            lambda context: install.install(
                context, files, switch_to=switches, allow_downgrade=back
            ),
            lambda model: model.install(
                wanted, self.time, switch_to=switches, allow_downgrade=back
            ),
            death,
        )

    @rule(data=st.data(), death=deaths)
    def switch(self, data: st.DataObject, death: int | None) -> None:
        """`appb switch APP@VERSION`."""
        name, version = self.any_key(data)
        self.do(
            lambda context: switch.switch(context, [parse_ref(f"{name}@{version}")]),
            lambda model: model.switch(name, version),
            death,
        )

    @rule(death=deaths)
    def previous(self, death: int | None) -> None:
        """`appb switch --previous`."""
        self.do(switch.switch_previous, lambda model: model.switch_to(model.now.parent), death)

    @rule(name=names, death=deaths)
    def previous_of(self, name: str, death: int | None) -> None:
        """`appb switch --previous APP`; it needs every generation on the way back."""
        self.do(
            lambda context: switch.switch_app_previous(context, AppName(name)),
            lambda model: model.previous_of(name),
            death,
            may_miss=len(self.model.pasts) < self.model.highest,
        )

    @rule(data=st.data(), death=deaths)
    def switch_to(self, data: st.DataObject, death: int | None) -> None:
        """`appb switch --to GENERATION`."""
        known = sorted(self.model.pasts)
        number = data.draw(st.sampled_from([*known, self.model.highest + 1]), label="generation")
        self.do(
            lambda context: switch.switch_to(context, number),
            lambda model: model.switch_to(number),
            death,
        )

    @rule(data=st.data(), death=deaths)
    def remove(self, data: st.DataObject, death: int | None) -> None:
        """`appb remove APP@VERSION`."""
        self._remove(*self.any_key(data), death)

    @rule(name=names, death=deaths)
    def remove_app(self, name: str, death: int | None) -> None:
        """`appb remove APP`."""
        self._remove(name, None, death)

    def _remove(self, name: str, version: str | None, death: int | None) -> None:
        ref = parse_ref(f"{name}@{version}" if version else name)
        self.do(
            lambda context: remove.remove(context, ref),
            lambda model: model.remove(name, version),
            death,
        )

    @rule(keep=st.integers(0, 2), death=deaths)
    def gc(self, keep: int, death: int | None) -> None:
        """`appb gc --keep N --older-than 0`."""
        policy = Policy(keep=keep, older_than_s=0)
        self.do(
            lambda context: remove.collect(context, policy),
            lambda model: model.collect(keep),
            death,
        )
        if death is None:
            self.tidy = True

    @rule(data=st.data(), death=deaths)
    def pin(self, data: st.DataObject, death: int | None) -> None:
        """`appb pin APP@VERSION`."""
        name, version = self.any_key(data)
        ref = parse_ref(f"{name}@{version}")
        self.do(
            lambda context: remove.pin(context, ref), lambda model: model.pin(name, version), death
        )

    @rule(data=st.data(), death=deaths)
    def unpin(self, data: st.DataObject, death: int | None) -> None:
        """`appb unpin APP@VERSION`."""
        name, version = data.draw(st.sampled_from([*sorted(self.model.pins) * 9, *ALL]))
        ref = parse_ref(f"{name}@{version}")
        self.do(
            lambda context: remove.unpin(context, ref),
            lambda model: model.unpin(name, version),
            death,
        )

    @invariant()
    def node_is_as_the_model_says(self) -> None:
        """What can be seen is what the model has, and every byte of it verifies."""
        model, seen = self.model, self.seen()
        assert seen == Seen(
            versions=frozenset(model.versions),
            pasts={number: (past.parent, past.apps) for number, past in model.pasts.items()},
            current=model.current,
            pins=model.pins,
            floors=model.floors,
        )
        assert self.node.problems() == {}
        if self.tidy:
            assert self.node.unshared_objects() == []


@dataclass(frozen=True)
class Seen:
    """What can be seen of a node.

    Args:
        pasts: For each generation its parent and its apps.
    """

    versions: frozenset[tuple[str, str]]
    pasts: dict[int, tuple[int | None, Mapping[Any, str]]]
    current: int | None
    pins: frozenset[tuple[str, str]]
    floors: dict[str, int]


def _dies(act: Callable[[], object], death: int, refusals: tuple[type[AppbError], ...]) -> bool:
    """Do something in a child that dies before a call, unless it ends earlier.

    Returns:
        Whether it died, or one of the processes that it needs; a refusal is as good as that, since
        afterwards nothing may have changed.
    """
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            die_before(death)
            act()
            status = 0
        except AppbError as error:
            if isinstance(error, refusals) or "was killed" in error.what:
                status = DIED
        finally:
            sys.setprofile(None)
            os._exit(status)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert status in (0, DIED)
    return status == DIED


TestSequences = Commands.TestCase
TestSequences.settings = settings(max_examples=examples(15), stateful_step_count=25)
