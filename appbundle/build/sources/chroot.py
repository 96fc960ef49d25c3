"""Running programs of the tree that is being built, without leaving a trace in it.

The tree's directories are bound into a fresh, temporary root in namespaces of their own; what a
program needs from the host (name resolution, certificates, package directories) is bound beside
them. So no mount point has to be made in the tree, and everything is gone with the process.
"""

import os
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from appbundle.names import escape
from appbundle.system import process

INSIDE = "/appb"
"""Where a build's own directories are, in the temporary root."""

TRACES = (f"{INSIDE}/tools", "/tmp/pip-")  # noqa: S108 (the root's own)
"""Paths that exist only while something is built; a file that names one has kept them."""

_DEVICES = ("null", "zero", "full", "random", "urandom")
_OWN = frozenset({"appb", "dev", "etc", "proc", "run", "sys", "tmp"})
_HOST_ETC = ("etc/resolv.conf", "etc/hosts", "etc/ssl")
_NAMESPACES = ("--mount", "--pid", "--ipc", "--fork", "--kill-child")


@dataclass(slots=True)
class Chroot:
    """A root to be, for programs of a tree.

    Args:
        tree: The tree; programs may write into its directories.
        scratch: An empty directory for the root and /tmp.
        shared: Directories by their name below `INSIDE`.
    """

    tree: Path
    scratch: Path
    shared: dict[str, Path]
    _from_host: dict[str, str] = field(default_factory=dict)

    def show(self, path: str) -> str:
        """Let the programs see a file or directory of the host.

        Returns:
            Its path for them: the same where the tree leaves room for it.
        """
        top = path.lstrip("/").split("/", 1)[0]
        if top == "etc":
            self._from_host[path] = path
            return path
        if top not in _OWN and not (self.tree / top).exists():
            # Whole, because a package index may refer to its neighbours.
            self._from_host[f"/{top}"] = f"/{top}"
            return path
        inside = f"{INSIDE}/host/{len(self._from_host)}"
        known = [target for target, source in self._from_host.items() if source == path]
        self._from_host[known[0] if known else inside] = path
        return known[0] if known else inside

    def run(
        self,
        argv: Sequence[str],
        *,
        environment: Mapping[str, str],
        timeout_s: float,
        network: bool,
        title: str = "",
        heard: Callable[[str], None] | None = None,
    ) -> process.Finished:
        """Run a program inside.

        Args:
            argv: An absolute path in the tree, and arguments.
            environment: All that it gets.
            timeout_s: After so many seconds it is ended.
            network: Without, it sees not even the host's loopback.
            title: What errors call it; the program's name if empty.
            heard: Told each line of output.

        Raises:
            ProgramError: It failed, or the kernel allows no namespaces here.
            UnsupportedError: The host has no unshare(1).
        """
        apart = () if network else ("--net",)
        unprivileged = () if os.geteuid() == 0 else ("--map-root-user",)
        variables = " ".join(shlex.quote(f"{key}={value}") for key, value in environment.items())
        script = "\n".join(
            [*self._mounts(), f'exec env -i {variables} "$(command -v chroot)" "$root" "$@"']
        )
        try:
            return process.run(
                ["unshare", *_NAMESPACES, *apart, *unprivileged, "sh", "-euc", script, "sh", *argv],
                environment=process.basic_environment(os.environ),
                timeout_s=timeout_s,
                title=title or os.path.basename(argv[0]),
                heard=heard,
            )
        except process.ProgramError as e:
            # Instead of a page of mounts.
            e.hint = f"in the tree it was called as: {escape(shlex.join(argv))}"
            raise

    def _mounts(self) -> list[str]:
        root, temporary = self.scratch / "root", self.scratch / "tmp"
        for directory in (root, temporary):
            directory.mkdir(exist_ok=True)
        return [
            # Nobody's umask shows in a tree.
            "umask 022",
            f"root={shlex.quote(str(root))}",
            # $1 is shown as $2, whatever kind of thing it is.
            'show() { if [ -d "$1" ]; then mkdir -p "$root$2"; else mkdir -p "$root${2%/*}"; '
            '[ -e "$root$2" ] || : > "$root$2"; fi; mount --rbind "$1" "$root$2"; }',
            'mount -t tmpfs -o mode=0755 build "$root"',
            *self._tree_mounts(),
            f'cp -a {shlex.quote(str(self.tree))}/etc "$root/etc" 2>/dev/null || mkdir "$root/etc"',
            *(_show(f"/dev/{name}", f"/dev/{name}") for name in _DEVICES),
            'mkdir "$root/proc" "$root/run"',
            # Inside a container the kernel may refuse a new one.
            'mount -t proc proc "$root/proc" 2>/dev/null || mount --rbind /proc "$root/proc"',
            _show(str(temporary), "/tmp"),  # noqa: S108 (the root's own)
            *(_show(str(path), f"{INSIDE}/{name}") for name, path in self.shared.items()),
            *self._host_mounts(),
        ]

    def _tree_mounts(self) -> list[str]:
        commands = []
        for entry in sorted(os.scandir(self.tree), key=lambda entry: entry.name):
            if entry.name in _OWN:
                continue
            if entry.is_symlink():
                target = shlex.quote(os.readlink(entry.path))
                commands.append(f'ln -s {target} "$root"/{shlex.quote(entry.name)}')
            else:
                commands.append(_show(entry.path, f"/{entry.name}"))
        return commands

    def _host_mounts(self) -> list[str]:
        commands = []
        for path in _HOST_ETC:
            if os.path.exists(f"/{path}"):
                # What the tree has there may be a link to nowhere.
                commands.append(f'rm -rf "$root"/{path}')
                commands.append(_show(os.path.realpath(f"/{path}"), f"/{path}"))
        for target, source in self._from_host.items():
            if not target.startswith("/etc/ssl/"):
                commands.append(_show(os.path.realpath(source), target))
        return commands


def _show(source: str, target: str) -> str:
    return f"show {shlex.quote(source)} {shlex.quote(target)}"
