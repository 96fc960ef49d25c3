"""`appb upgrade --schedule`: upgrades that a node makes by itself."""

from collections.abc import Sequence

from appbundle.errors import UnsupportedError
from appbundle.flows.context import Context
from appbundle.services import choose, own
from appbundle.services.systemd import Systemd


def schedule(context: Context, calendar: Sequence[str], *, window_s: int) -> None:
    """Upgrade by itself from now on.

    Args:
        calendar: When windows begin, as systemd.time(7) has it.
        window_s: How long they are; an upgrade begins at any moment of one.

    Raises:
        UsageError: That is no such time.
        UnsupportedError: No systemd runs here.
    """
    command = [*own.lasting_command(context.layout), f"--root={context.layout.root}", "upgrade"]
    _systemd(context).schedule(command, calendar, window_s=window_s)


def unschedule(context: Context) -> bool:
    """Upgrade only when told to; whether it was otherwise."""
    return _systemd(context).unschedule()


def _systemd(context: Context) -> Systemd:
    if not choose.runs_systemd(context.layout):
        raise UnsupportedError(
            "no systemd runs here that could upgrade by itself",
            hint="whatever else runs programs at times may run: appb upgrade",
        )
    return Systemd(context.layout)
