"""What an installation leads to: the generation that comes next, with all that is known of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Protocol

from appbundle.bundle.manifest import Manifest
from appbundle.flows import switch
from appbundle.flows.context import Context
from appbundle.names import AppName, BundleRef, Version
from appbundle.store import generations
from appbundle.store.generations import Generation

if TYPE_CHECKING:
    from appbundle.flows.configuration import Wishes

Apps = Mapping[AppName, Version]
Told = Mapping[AppName, Manifest]


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """From one generation to the next.

    Args:
        before: What is current.
        after: What is planned; None if nothing changes.
        wishes: What shall differ of apps' settings.
    """

    before: Generation | None
    after: Generation | None = None
    wishes: Wishes = field(default_factory=dict)


class Goal(Protocol):
    """What an installation leads to: a generation, unless it `switches` to none."""

    switches: ClassVar[bool]

    def admit(self, context: Context, manifest: Manifest) -> None:
        """Refuse a bundle before it is unpacked, if it does not fit.

        Raises:
            AppbError: Why.
        """

    def step(self, context: Context, refs: Apps, told: Told) -> Step:
        """Plan what comes next.

        Args:
            refs: What is installed.
            told: Manifests of versions that are not in their place yet.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class Added:
    """What is installed joins what is current, or takes its place.

    Args:
        purpose: What the generation's reason begins with.
    """

    switches: ClassVar[bool] = True
    purpose: str = "install"

    def admit(self, context: Context, manifest: Manifest) -> None:
        """Refuse nothing."""

    def step(self, context: Context, refs: Apps, told: Told) -> Step:
        """Plan what comes next."""
        before = generations.current(context.layout)
        apps = dict(before.apps) if before else {}
        if apps | dict(refs) == apps:
            return Step(before=before)
        reason = " ".join([self.purpose, *(str(BundleRef(*each)) for each in refs.items())])
        after = switch.plan(context, apps | dict(refs), reason, told=told)
        return Step(before=before, after=after)


class Unchanged:
    """Nothing becomes current."""

    switches: ClassVar[bool] = False

    def admit(self, context: Context, manifest: Manifest) -> None:
        """Refuse nothing."""

    def step(self, context: Context, refs: Apps, told: Told) -> Step:
        """Plan nothing."""
        return Step(before=generations.current(context.layout))
