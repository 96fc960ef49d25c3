"""`appb apply`: a node has the apps and settings of a node file, and no others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from appbundle.bundle.manifest import Manifest
from appbundle.errors import ConflictError, NotFoundError, UsageError
from appbundle.flows import choice, configuration, install, settings, shelf, switch
from appbundle.flows.configuration import Told, Wish
from appbundle.flows.context import Context
from appbundle.flows.goal import Apps, Step
from appbundle.flows.install import Installed
from appbundle.names import AppName, BundleRef, escape
from appbundle.store import generations, node_file
from appbundle.store.generations import Generation
from appbundle.store.node_file import FromFile, NodeFile


def apply(
    context: Context,
    path: Path,
    *,
    directories: Sequence[str] = (),
    allow_downgrade: bool = False,
    dry_run: bool = False,
) -> Installed:
    """Give a node the apps and settings of a node file, all in one generation.

    Args:
        path: Of the node file.
        directories: Bundle files in them are releases that may be chosen.
        allow_downgrade: Accept a release number below the highest accepted.
        dry_run: Only say what would happen; of bundles in repositories only manifests are fetched.

    Raises:
        NotFoundError: A file, a version or a setting is not there.
        UsageError: The file is none, or a value is none of its setting.
        AppbError: As installing.
    """
    wanted = node_file.read(path)
    chosen = choice.choose(context, wanted, shelf.read(context, directories))
    goal = _Whole(wanted, {n: each for n, each in chosen.items() if isinstance(each, str)})
    origins = [each for each in chosen.values() if not isinstance(each, str)]
    if dry_run:
        return install.plan_from(context, origins, goal=goal, allow_downgrade=allow_downgrade)
    return install.install_from(context, origins, goal=goal, allow_downgrade=allow_downgrade)


@dataclass(frozen=True, slots=True)
class _Whole:
    """What a node file says, and nothing else.

    Args:
        wanted: The file.
        there: Versions on disk that become current, or stay.
    """

    switches: ClassVar[bool] = True
    wanted: NodeFile
    there: Apps

    def admit(self, context: Context, manifest: Manifest) -> None:
        """Refuse a bundle that cannot have the file's settings, before it is unpacked."""
        self._wish(context, generations.current(context.layout), manifest)

    def step(self, context: Context, refs: Apps, told: Told) -> Step:
        """Plan a generation with these apps and settings, unless it is as the current one."""
        layout = context.layout
        before = generations.current(layout)
        for name, version in self.there.items():
            generations.require_version(layout, BundleRef(name, version))
        apps = {**self.there, **refs}
        manifests = {
            name: configuration.manifest_at(layout, name, version, told)
            for name, version in apps.items()
        }
        self._check_shared(manifests)
        wishes = {name: self._wish(context, before, each) for name, each in manifests.items()}
        reason = f"apply {self.wanted.title}"
        after = switch.plan(context, apps, reason, told=told, wishes=wishes)
        if _same(before, after):
            return Step(before=before)
        configuration.check(layout, before, after, told=told)
        return Step(before=before, after=after, wishes=wishes)

    def _wish(self, context: Context, before: Generation | None, manifest: Manifest) -> Wish:
        declared = {each.name: each for each in manifest.settings}
        entry = self.wanted.apps.get(AppName(manifest.name))
        if entry is None:
            raise ConflictError(f"a file that was no bundle of {manifest.name} has become one")
        general = {key: each for key, each in self.wanted.settings.items() if key in declared}
        given = general | entry.settings
        for key, value in given.items():
            if key in declared and declared[key].secret and not isinstance(value, FromFile):
                raise self._exposed(key, manifest)
        texts = {key: node_file.text_of(value, self.wanted) for key, value in given.items()}
        return settings.wish_of(context, before, manifest, texts, whole=True)

    def _exposed(self, key: str, manifest: Manifest) -> UsageError:
        return UsageError(
            f"{self.wanted.title}: {key} of {manifest.name} is a secret and does not belong there",
            hint=f'{key} = {{ file = "PATH" }}, or: '
            f"appb set {manifest.name} --from-file {key}=FILE; what nobody sets is made at random",
        )

    def _check_shared(self, manifests: Mapping[AppName, Manifest]) -> None:
        """Refuse a setting for all apps that none of them has: it is misspelt."""
        declared = {each.name for found in manifests.values() for each in found.settings}
        for key in self.wanted.settings:
            if key not in declared:
                raise NotFoundError(
                    f"{self.wanted.title}: no app there has a setting {escape(key)}",
                    hint="appb get APP shows which one has",
                )


def _same(before: Generation | None, after: Generation) -> bool:
    if before is None:
        return not after.apps
    return all(
        getattr(before, name) == getattr(after, name)
        for name in ("apps", "settings", "taken", "secrets")
    )
