"""The static user `appb-NAME` of an app: the same number whoever keeps its services running."""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection, Iterator

from appbundle.errors import UnsupportedError
from appbundle.layout import Layout
from appbundle.names import AppName, Version
from appbundle.system import files, mounts, process
from appbundle.system import users as names

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
    if identity(layout, app) is not None:
        return user
    number = _owner(layout, app)
    if shutil.which("systemd-sysusers"):
        numbers = f"{number}:{number}" if number else "-"
        lines = [f'u {user} {numbers} "{app}" /var/lib/{app} /usr/sbin/nologin']
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


def identity(layout: Layout, app: AppName) -> tuple[int, int] | None:
    """The numbers of an app's user and its group in the node's passwd, if it is there."""
    try:
        lines = (layout.root / "etc/passwd").read_text(errors="replace").splitlines()
    except FileNotFoundError:
        return None
    fields = (line.split(":") for line in lines if line.startswith(f"{PREFIX}{app}:"))
    return next(((int(each[2]), int(each[3])) for each in fields), None)


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
    own = identity(layout, app)
    found = own[0] if own else _owner(layout, app)
    if found is None:
        raise UnsupportedError(f"this node has no user {PREFIX}{app}")
    return found


def show(layout: Layout, app: AppName, version: Version) -> Iterator[tuple[str, str]]:
    """Write the passwd and group files in which a version's services find their user.

    Returns:
        For each that it has itself, and that gives way: path below the node's root, path in it.
    """
    ids = identity(layout, app)
    if ids is None:
        return
    uid, gid = ids
    user, home = PREFIX + app, f"/var/lib/{app}"
    texts = {
        "passwd": names.passwd(user, uid=uid, gid=gid, home=home),
        "group": names.group(user, gid=gid),
    }
    place = layout.users / app
    files.make_directory(layout.users)
    files.make_directory(place)
    with files.directory(layout.version(app, version)) as tree_fd:
        shown = [name for name in texts if mounts.is_file_beneath(tree_fd, f"etc/{name}")]
    for name in shown:
        path = place / name
        if not path.exists() or path.read_text() != texts[name]:
            files.write_durably(path, texts[name].encode())
        yield f"/{path.relative_to(layout.root)}", f"/etc/{name}"


def keep_only(layout: Layout, apps: Collection[AppName]) -> None:
    """Remove what `show` has written for others."""
    for path in layout.users.iterdir() if layout.users.exists() else ():
        if path.name not in apps:
            files.remove_tree(path)
