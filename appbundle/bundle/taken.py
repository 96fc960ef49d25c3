"""Settings whose values are those of other apps' settings: `of = "mariadb/port"`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from appbundle.bundle.manifest import Manifest
from appbundle.bundle.setting_rules import value_problem
from appbundle.bundle.settings import Setting
from appbundle.errors import ConflictError
from appbundle.names import AppName, escape

Values = Mapping[AppName, Mapping[str, str]]
"""By app and setting."""


def take(manifests: Mapping[AppName, Manifest], given: Values) -> dict[AppName, dict[str, str]]:
    """Say what settings that nobody has set take of others.

    Args:
        manifests: All apps that are together on a node.
        given: What is set.

    Returns:
        Values by app and setting; without those whose other app or setting is not there.

    Raises:
        ConflictError: What would be taken is a secret, or no value of the setting that takes it.
    """
    known = {f"{name}/{s.name}": s for name, found in manifests.items() for s in found.settings}
    chosen = {f"{name}/{key}": text for name, own in given.items() for key, text in own.items()}
    taken = {
        name: dict(_taken_by(name, manifest, known, chosen)) for name, manifest in manifests.items()
    }
    return {name: found for name, found in taken.items() if found}


def _taken_by(
    name: AppName, manifest: Manifest, known: Mapping[str, Setting], chosen: Mapping[str, str]
) -> Iterator[tuple[str, str]]:
    for setting in manifest.settings:
        here = f"{name}/{setting.name}"
        if setting.secret or setting.of not in known or here in chosen:
            continue
        source = _follow(here, known, chosen)
        if source == here:
            continue
        value = chosen.get(source, known[source].default)
        if known[source].secret:
            why = "which is a secret"
        elif problem := value_problem(setting, value):
            why = f"which is {escape(value)}: {problem}"
        else:
            yield setting.name, value
            continue
        raise ConflictError(
            f"{name} {manifest.version}: {setting.name} is that of {setting.of}, {why}",
            hint=f"give it a value of its own: appb set {name} {setting.name}=VALUE",
        )


def _follow(place: str, known: Mapping[str, Setting], chosen: Mapping[str, str]) -> str:
    """Find the setting whose value one has; in a circle it is the one where it was entered."""
    seen: set[str] = set()
    while known[place].of in known and not (
        known[place].secret or place in chosen or place in seen
    ):
        seen.add(place)
        place = known[place].of
    return place
