"""What a generation wants of each app that has services: declarations, settings filled in."""

from __future__ import annotations

import os
import sys
from collections.abc import Collection, Sequence

from appbundle.errors import AppbError
from appbundle.layout import Layout
from appbundle.names import AppName
from appbundle.services.model import Instance, Wanted
from appbundle.store import versions
from appbundle.store.generations import Generation
from appbundle.system import process


def wanted(layout: Layout, generation: Generation) -> tuple[Wanted, ...]:
    """Read what a generation's serving apps declare."""
    found = []
    for name in generation.serving:
        version = generation.apps[name]
        about = versions.read_about(layout, name, version)
        if about is not None:
            found.append(
                Wanted(
                    app=name,
                    version=version,
                    generation=generation.number,
                    services=about.manifest.services,
                )
            )
    return tuple(found)


def digests(
    layout: Layout, which: Collection[tuple[AppName, int | None]]
) -> dict[tuple[AppName, int | None], str]:
    """The digests of what was rendered for apps in generations that are on disk."""
    return {}


def ask(layout: Layout, instance: Instance, argv: Sequence[str], timeout_s: float) -> str:
    """Run a program inside a running instance; gives why it failed, or nothing."""
    key = instance.key
    command = [sys.executable, "-I", "-m", "appbundle", "--root", str(layout.root), "exec"]
    if instance.is_next:
        command.append("--next")
    try:
        process.run(
            [*command, f"{key.app}/{key.service}", "--", *argv],
            environment=process.basic_environment(os.environ),
            timeout_s=timeout_s,
            title=argv[0],
        )
    except AppbError as error:
        return error.what
    return ""
