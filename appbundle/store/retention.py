"""What may be removed, and why the rest stays: decided from values, without looking at a disk."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from appbundle.names import AppName, Version
from appbundle.store.generations import Generation

Key = tuple[AppName, Version]
_DAY_S = 86_400


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """When an unused version is old enough.

    Args:
        keep: So many newest versions of each app stay, whatever their age.
        older_than_s: Nothing younger goes. Both must hold for a version to go.
    """

    keep: int
    older_than_s: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What becomes of one version.

    Args:
        reason: Why it is kept, or why it goes, in a few words.
    """

    name: AppName
    version: Version
    keep: bool
    reason: str


def judge(
    versions: Mapping[AppName, Sequence[tuple[Version, int]]],
    *,
    current: Generation | None,
    parent: Generation | None,
    failed: Collection[Key],
    pinned: Collection[Key],
    in_use: Collection[Key],
    policy: Policy,
    now: int,
) -> list[Verdict]:
    """Decide about every version on disk.

    Args:
        versions: For each app its versions with the time of installation, oldest first.
        current: What the node runs.
        parent: What `switch --previous` would bring back.
        failed: Versions that a switch found unhealthy; they take no slot of `policy.keep`.
        in_use: Versions that a process still runs from.

    Returns:
        A verdict a version, in the order given.
    """
    fixed: list[tuple[Collection[Key], str]] = [
        (_keys(current), "current"),
        (_keys(parent), "what switch --previous brings back"),
        (pinned, "pinned"),
        (in_use, "in use by a process"),
    ]
    verdicts: list[Verdict] = []
    for name, on_disk in versions.items():
        slots = policy.keep
        of_app = []
        for version, installed_at in reversed(on_disk):
            key = (name, version)
            reasons = [reason for keys, reason in fixed if key in keys]
            if key not in failed and slots > 0:
                slots -= 1
                reasons.append(f"one of the newest {policy.keep}")
            age_s = now - installed_at
            if age_s < policy.older_than_s:
                reasons.append(f"younger than {describe_age(policy.older_than_s)}")
            gone = (
                "failed its health check" if key in failed else f"{describe_age(age_s)} old, unused"
            )
            of_app.append(
                Verdict(
                    name=name,
                    version=version,
                    keep=bool(reasons),
                    reason=", ".join(reasons) or gone,
                )
            )
        verdicts += reversed(of_app)
    return verdicts


def _keys(generation: Generation | None) -> frozenset[Key]:
    return frozenset(generation.apps.items()) if generation else frozenset()


def describe_age(seconds: int) -> str:
    """A duration in the largest unit that fits: `3 days`."""
    for unit, length in (("day", _DAY_S), ("hour", 3600), ("minute", 60)):
        if seconds >= length:
            count = seconds // length
            return f"{count} {unit}{'s' if count > 1 else ''}"
    return f"{max(0, seconds)} seconds"


def dead_generations(
    generations: Iterable[Generation], gone: Collection[Key], *, current: int | None
) -> list[int]:
    """Generations that name a removed version, and so can never be switched to again.

    The current one and the newest stay: the first runs, the second keeps numbers from coming back.
    """
    known = list(generations)
    newest = known[-1].number if known else None
    return [
        each.number
        for each in known
        if each.number not in (current, newest) and _names_any(each, gone)
    ]


def _names_any(generation: Generation, gone: Collection[Key]) -> bool:
    return any(key in gone for key in generation.apps.items())


def failed_versions(generations: Iterable[Generation]) -> frozenset[Key]:
    """Versions that came with a generation that failed, and never were part of one that did not."""
    good: set[Key] = set()
    bad: set[Key] = set()
    for each in generations:
        (good if each.outcome == "ok" else bad).update(each.apps.items())
    return frozenset(bad - good)
