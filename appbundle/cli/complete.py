"""Completing names of apps and versions on a shell's command line.

It looks at names of directories only, so that it is quick on any node, and never fails: where
there is no node, or one that may not be read, nothing is offered.
"""

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from appbundle.errors import AppbError
from appbundle.layout import Layout

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem


def versions(ctx: click.Context, param: click.Parameter, incomplete: str) -> "list[CompletionItem]":
    """Offer APP@VERSION for `switch`; apps alone after `--previous`."""
    if ctx.params.get("previous"):
        return _offer(ctx, incomplete, _apps)
    return _offer(ctx, incomplete, _versions)


def apps(ctx: click.Context, param: click.Parameter, incomplete: str) -> "list[CompletionItem]":
    """Offer APP."""
    return _offer(ctx, incomplete, _apps)


def anything(ctx: click.Context, param: click.Parameter, incomplete: str) -> "list[CompletionItem]":
    """Offer APP and APP@VERSION."""
    return _offer(ctx, incomplete, _apps, _versions)


def anything_or_file(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> "list[CompletionItem]":
    """Offer the same, and files."""
    from click.shell_completion import CompletionItem

    return [CompletionItem(incomplete, type="file"), *anything(ctx, param, incomplete)]


def pinned(ctx: click.Context, param: click.Parameter, incomplete: str) -> "list[CompletionItem]":
    """Offer APP@VERSION of what is pinned."""
    return _offer(ctx, incomplete, _pinned)


def serving(ctx: click.Context, param: click.Parameter, incomplete: str) -> "list[CompletionItem]":
    """Offer APP and APP/SERVICE of what has services now."""
    return _offer(ctx, incomplete, _services)


def _offer(
    ctx: click.Context, incomplete: str, *sources: Callable[[Layout], Iterator[str]]
) -> "list[CompletionItem]":
    from click.shell_completion import CompletionItem

    root = ctx.find_root().params.get("root") or os.environ.get("APPB_ROOT") or "/"
    names: list[str] = []
    with contextlib.suppress(OSError, AppbError):
        for source in sources:
            names += source(Layout(Path(root)))
    return [CompletionItem(name) for name in names if name.startswith(incomplete)]


def _apps(layout: Layout) -> Iterator[str]:
    from appbundle.store import listed

    return iter(listed.app_names(layout))


def _versions(layout: Layout) -> Iterator[str]:
    from appbundle.store import listed

    for name in listed.app_names(layout):
        yield from sorted(f"{name}@{version}" for version in listed.version_names(layout, name))


def _pinned(layout: Layout) -> Iterator[str]:
    from appbundle.store import pins

    return iter(sorted(f"{name}@{version}" for name, version in pins.pinned(layout)))


def _services(layout: Layout) -> Iterator[str]:
    import json

    from appbundle.store import generations

    current = generations.current(layout)
    if current is None:
        return
    for name in current.serving:
        yield name
        about = json.loads(layout.about(name, current.apps[name]).read_bytes())
        declared = [each["name"] for each in about["manifest"]["services"]]
        yield from (f"{name}/{service}" for service in sorted(declared) if service != name)
