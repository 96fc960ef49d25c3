"""Retention is decided from values: what may go, and every reason why the rest stays."""

from collections.abc import Collection

import pytest

from appbundle.names import AppName, Version
from appbundle.store.generations import Generation
from appbundle.store.retention import Key, Policy, dead_generations, failed_versions, judge
from tests.crash.support import DAY_S, NOW

WEB = AppName("web")


def generation(number: int, outcome: str = "ok", **apps: str) -> Generation:
    """A generation with some apps."""
    return Generation(
        number=number,
        parent=number - 1 or None,
        created_at=0,
        reason="",
        by="",
        outcome=outcome,
        apps={AppName(name): Version(version) for name, version in apps.items()},
    )


def key(version: str) -> Key:
    """A version of the one app."""
    return WEB, Version(version)


def reasons(
    *ages_days: float,
    keep: int = 0,
    older_than_days: float = 0,
    current: str | None = None,
    parent: str | None = None,
    failed: Collection[Key] = (),
    pinned: Collection[Key] = (),
    in_use: Collection[Key] = (),
) -> dict[str, str | None]:
    """Judge versions 1, 2, 3… of these ages; why each stays, or None if it goes."""
    verdicts = judge(
        {WEB: [(Version(str(n)), int(NOW - a * DAY_S)) for n, a in enumerate(ages_days, 1)]},
        current=generation(9, web=current) if current else None,
        parent=generation(8, web=parent) if parent else None,
        failed=failed,
        pinned=pinned,
        in_use=in_use,
        policy=Policy(keep=keep, older_than_s=int(older_than_days * DAY_S)),
        now=NOW,
    )
    assert all(each.reason for each in verdicts)
    return {each.version: each.reason if each.keep else None for each in verdicts}


def test_nothing_special_goes() -> None:
    """A version that nothing speaks for is removed."""
    assert reasons(3, 2, 1) == {"1": None, "2": None, "3": None}


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"current": "1"}, "current"),
        ({"parent": "1"}, "what switch --previous brings back"),
        ({"pinned": {key("1")}}, "pinned"),
        ({"in_use": {key("1")}}, "in use by a process"),
        ({"older_than_days": 3.5}, "younger than 3 days"),
    ],
)
def test_each_ground_keeps_a_version_by_itself(arguments: dict[str, object], reason: str) -> None:
    """One ground is enough, it is named, and it keeps no other version."""
    found = reasons(3, 9, **arguments)  # type: ignore[arg-type]
    assert found == {"1": reason, "2": None}


def test_newest_are_those_installed_last() -> None:
    """The newest N stay, counted from the one that was installed last."""
    found = reasons(3, 2, 1, keep=2)
    assert found == {"1": None, "2": "one of the newest 2", "3": "one of the newest 2"}


def test_count_and_age_must_both_allow_it() -> None:
    """A version goes only if it is surplus and old."""
    found = reasons(40, 20, 10, 1, keep=1, older_than_days=15)
    assert [version for version, reason in found.items() if reason is None] == ["1", "2"]


def test_all_grounds_are_named() -> None:
    """Somebody who unpins a version learns what else keeps it."""
    found = reasons(1, keep=1, older_than_days=2, current="1", pinned={key("1")})
    assert found["1"] == "current, pinned, one of the newest 1, younger than 2 days"


def test_failed_version_takes_no_place() -> None:
    """What failed its health check neither stays as one of the newest nor displaces a good one."""
    found = reasons(3, 2, 1, keep=1, failed={key("3")})
    assert found == {"1": None, "2": "one of the newest 1", "3": None}


def test_version_failed_only_if_it_never_worked() -> None:
    """A version that was part of a good generation too did not fail."""
    known = [generation(1, web="1"), generation(2, "unhealthy", web="2", db="1")]
    assert failed_versions(known) == {key("2"), (AppName("db"), Version("1"))}
    assert failed_versions([*known, generation(3, web="2")]) == {(AppName("db"), Version("1"))}


def test_generations_die_with_their_versions() -> None:
    """A generation that lost a version goes, but for the current one and the newest."""
    known = [generation(n, web=str(n)) for n in (1, 2, 3, 4)]
    gone = [key(version) for version in ("1", "2", "4")]
    assert dead_generations(known, gone, current=2) == [1]
