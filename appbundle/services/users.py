"""The static user `appb-NAME` of an app: the same number whoever keeps its services running."""

from __future__ import annotations

import os
import shutil

from appbundle.errors import UnsupportedError
from appbundle.layout import Layout
from appbundle.names import AppName
from appbundle.system import process

PREFIX = "appb-"
_TIMEOUT_S = 60.0


def ensure(layout: Layout, app: AppName) -> str:
    """Have the node know an app's user; gives its name.

    Its number is that of the state directory's owner, where there is one that was made without
    such a user.

    Raises:
        UnsupportedError: The node has neither systemd-sysusers nor useradd.
    """
    user = PREFIX + app
    if _known(layout, user) is not None:
        return user
    number = _owner(layout, app)
    if shutil.which("systemd-sysusers"):
        identity = f"{number}:{number}" if number else "-"
        lines = [f'u {user} {identity} "{app}" /var/lib/{app} /usr/sbin/nologin']
        if number:
            lines.insert(0, f"g {user} {number}")
        argv = ["systemd-sysusers", f"--root={layout.root}", "--inline", *lines]
    elif shutil.which("useradd"):
        argv = ["useradd", "--root", str(layout.root), "--system", "--no-create-home"]
        argv += ["--user-group", "--home-dir", f"/var/lib/{app}", "--shell", "/usr/sbin/nologin"]
        argv += [*(["--uid", str(number)] if number else []), user]
    else:
        raise UnsupportedError(
            f"this node has no user {user}", hint="install systemd-sysusers or useradd"
        )
    process.run(argv, environment=process.basic_environment(os.environ), timeout_s=_TIMEOUT_S)
    return user


def _known(layout: Layout, user: str) -> int | None:
    """A user's number in the node's passwd, if it is there."""
    try:
        lines = (layout.root / "etc/passwd").read_text(errors="replace").splitlines()
    except FileNotFoundError:
        return None
    return next((int(line.split(":")[2]) for line in lines if line.startswith(f"{user}:")), None)


def _owner(layout: Layout, app: AppName) -> int | None:
    try:
        owner = os.lstat(layout.state(app)).st_uid
    except FileNotFoundError:
        return None
    return owner or None


def number(layout: Layout, app: AppName) -> int:
    """The number of an app's user: from the node's passwd, else of who owns its state.

    Raises:
        UnsupportedError: It has none yet.
    """
    user = PREFIX + app
    found = _known(layout, user)
    if found is None:
        found = _owner(layout, app)
    if found is None:
        raise UnsupportedError(f"this node has no user {user}")
    return found
