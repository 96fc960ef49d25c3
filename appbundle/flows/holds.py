"""`appb hold`, `unhold`: apps that upgrades leave as they are."""

from appbundle.errors import NotFoundError
from appbundle.flows.context import Context
from appbundle.names import AppName
from appbundle.store import holds, listed, node
from appbundle.store.holds import Hold


def hold(context: Context, name: AppName, *, reason: str, until: int | None) -> Hold:
    """Leave an app as it is; replaces an earlier hold.

    Args:
        until: Seconds since the epoch; None until `unhold`.

    Raises:
        NotFoundError: It is not installed.
    """
    layout = context.layout
    with node.changing(
        layout, purpose="hold", timeout_s=context.lock_timeout_s, waiting=context.waiting
    ):
        if name not in listed.app_names(layout):
            raise NotFoundError(f"{name} is not installed", hint="appb list")
        made = Hold(reason=reason, until=until, since=context.now, by=context.by)
        holds.write(layout, holds.read(layout, now=context.now) | {name: made})
        return made


def unhold(context: Context, name: AppName) -> None:
    """Let upgrades take an app again.

    Raises:
        NotFoundError: It is not held.
    """
    layout = context.layout
    with node.changing(
        layout, purpose="unhold", timeout_s=context.lock_timeout_s, waiting=context.waiting
    ):
        held = holds.read(layout, now=context.now)
        if name not in held:
            raise NotFoundError(f"{name} is not held", hint="appb outdated shows what is")
        holds.write(layout, {each: why for each, why in held.items() if each != name})
