"""The same services from Debian's own packages, in a fresh tree of Debian 12."""

import contextlib
import os
import shlex
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from disk import fresh_disk
from measure import Command, command, run

from appbundle.build.sources.archives import find_archives

SUITE = "bookworm"
_PACKAGES: Mapping[str, Sequence[str]] = {
    "mariadb": ["mariadb-server"],
    "rabbitmq": ["rabbitmq-server"],
    "memcached": ["memcached"],
    "nginx": ["nginx"],
    "keystone": ["keystone"],
    "glance": ["glance-api"],
    "placement": ["placement-api"],
    "neutron": ["neutron-server"],
    # A hypervisor has to be chosen; this one brings no libvirt and no emulator.
    "nova": ["nova-api", "nova-conductor", "nova-scheduler", "nova-compute", "nova-compute-ironic"],
    "openstackclient": ["python3-openstackclient"],
}
_OF_DATABASES = ("keystone", "glance", "placement", "neutron", "nova")
"""Apps that have one, in the order in which they are made."""

_INSTALL = ("apt-get", "install", "-qy", "--no-install-recommends")
_HERE = Path(__file__).parent
_PATIENCE_S = 1800.0


def packages_for(apps: Sequence[str]) -> list[str]:
    """Debian's packages that bring the services of apps; none for apps that it does not have."""
    return [package for app in apps for package in _PACKAGES.get(app, ())]


def prepare(workdir: Path, packages: Sequence[str]) -> Path:
    """Make a minimal tree with packages in apt's cache, as a tar, unless it is there already."""
    archive = workdir / "debian.tar"
    wanted = archive.with_suffix(".packages")
    if archive.exists() and wanted.read_text().split() == [*packages]:
        return archive
    unfinished = workdir / "unfinished-debian.tar"
    with tempfile.TemporaryDirectory(dir=workdir) as scratch:
        sources = [Path(scratch, f"archives{ending}") for ending in _archives()]
        for path, text in zip(sources, _archives().values(), strict=True):
            path.write_text(text)
        download = shlex.join([*_INSTALL, "--download-only", *packages])
        options = (
            *("--variant=minbase", "--format=tar", "--skip=cleanup/apt"),
            f'--customize-hook=chroot "$1" {download}',
        )
        making = command("mmdebstrap", *options, SUITE, unfinished, *sources, **_proxies())
        run([making], time_limit_s=_PATIENCE_S)
    wanted.write_text(" ".join(packages))
    return unfinished.rename(archive)


def _archives() -> Mapping[str, str]:
    return find_archives(Path("/etc/apt"), SUITE)


def _proxies() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name.lower().endswith("_proxy")}


@contextlib.contextmanager
def fresh_tree(workdir: Path, archive: Path) -> Iterator[Path]:
    """Unpack the tree on a fresh disk; its packages start no service."""
    with fresh_disk(workdir) as disk:
        run([command("tar", "-C", disk, "-xf", archive)])
        policy = disk / "usr/sbin/policy-rc.d"
        policy.write_text("#!/bin/sh\nexit 101\n")
        policy.chmod(0o755)
        yield disk


def install(tree: Path, packages: Sequence[str]) -> Command:
    """The command that unpacks and configures packages, asking nothing, fetching nothing."""
    return _within(tree, *_INSTALL, "--no-download", *packages)


def make_databases(tree: Path, apps: Sequence[str]) -> Command:
    """The command that makes the databases of those apps that have one."""
    script = (_HERE / "make_databases.sh").read_text()
    return _within(tree, "sh", "-c", script, "sh", *(a for a in _OF_DATABASES if a in apps))


def _within(tree: Path, *words: str) -> Command:
    """A command in the tree; processes that it leaves behind end with it."""
    alone = ("unshare", "--pid", "--fork", "--kill-child", f"--mount-proc={tree}/proc")
    return command(*alone, "chroot", tree, *words, DEBIAN_FRONTEND="noninteractive")
