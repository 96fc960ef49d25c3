"""Plans: what is done at the same time, and what waits for what."""

import pytest

from appbundle.bundle.services import Service
from appbundle.errors import UnsupportedError
from appbundle.names import AppName, Version
from appbundle.services import plan
from appbundle.services.model import Instance, Key, Seen, State, Wanted


def wanted(*services: Service, version: str = "2.0") -> Wanted:
    """An app with services."""
    return Wanted(app=AppName("web"), version=Version(version), generation=2, services=services)


def service(name: str, *after: str) -> Service:
    """A service that starts after others of its app."""
    needed = tuple(f"web/{each}" for each in after)
    return Service(name=name, argv=("/bin/server",), after=needed)


def key(name: str) -> Key:
    """A service of that app."""
    return Key(AppName("web"), name)


def running(*names: str) -> dict[Instance, Seen]:
    """Services that run from an older version."""
    old = Seen(state=State.RUNNING, version=Version("1.0"))
    return {Instance(key(name)): old for name in names}


def test_only_what_needs_something_waits() -> None:
    """New services start in as few stages as their order allows."""
    found = plan.make(
        [wanted(service("last", "first", "other"), service("first"), service("other"))],
        {},
        known=(),
        configurations={},
    )
    assert found.after == (
        (plan.Start(key("first")), plan.Start(key("other"))),
        (plan.Start(key("last")),),
    )


def test_second_instances_start_together_and_end_together() -> None:
    """All are tried before the rename; one covers its service until that has restarted."""
    first = Service(name="first", argv=("/bin/server",), change="overlap")
    found = plan.make(
        [wanted(first, service("other"))],
        running("first", "other"),
        known=[key("first"), key("other")],
        configurations={},
    )
    assert found.before == ((plan.StartNext(key("first")),),)
    assert found.after == (
        (plan.Restart(key("first")), plan.Restart(key("other"))),
        (plan.StopNext(key("first")),),
    )


def test_what_moves_ends_before_anything_is_declared_anew() -> None:
    """A service whose socket moves ends with those that are gone, and starts in its turn."""
    found = plan.make(
        [wanted(service("first"))],
        running("first", "gone"),
        known=[key("first"), key("gone")],
        configurations={},
        moved=[key("first")],
    )
    assert found.ends == (plan.Stop(key("gone")), plan.Stop(key("first")))
    assert found.after == ((plan.Start(key("first")),),)


def test_circle_is_refused() -> None:
    """Services that wait for each other are named."""
    services = {
        key(each.name): (wanted(), each)
        for each in (service("first", "other"), service("other", "first"))
    }
    with pytest.raises(UnsupportedError, match="web/first → web/other"):
        plan.in_levels(services)
