"""Other tools that put a tree on a disk, each fed an archive made from the very same tree.

A peer says how its archive is made (once, cached), what must be there before the clock starts,
and which commands are timed. The timed part always ends with syncfs(2), whatever the tool did by
itself, so that all results are durable.
"""

import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import oci
from measure import SEARCH_PATH, Command, command, run

ZSTD_LEVEL = "12"
"""Near what `appb build` uses; the level hardly changes how fast unpacking is."""

_HERE = Path(__file__).parent
_PREPARE_LIMIT_S = 900.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """One release in all its forms.

    Args:
        name: The app's.
        version: For people.
        tree: The files as they shall be on disk.
        cache: Where this release's archives are kept.
        bundle: The signed bundle that holds the same files.
    """

    name: str
    version: str
    tree: Path
    cache: Path
    bundle: Path

    @property
    def directory(self) -> str:
        """What the tools call it that put it into a directory of its own."""
        return f"{self.name}-{self.version}"


TREE = ":tree"
BUNDLE = ":bundle"
Prepare = Callable[[Release, Path], None]
SetUp = Callable[[Path], None]
Install = Callable[[Path, Release, Path, Release | None], list[Command]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """A tool to compare with.

    Args:
        name: As shown.
        programs: What must be on PATH.
        package: The Debian package that has it.
        archive: Name of its archive in the release's cache; `TREE` or `BUNDLE` for these.
        prepare: Makes that archive (untimed, once).
        set_up: Makes an empty store on a fresh disk (untimed).
        install: The timed commands, from archive, release, disk and the release that is there.
        joins: It has one command, whose last word is the archive, and which takes many of them.
    """

    name: str
    programs: tuple[str, ...]
    package: str
    archive: str
    install: Install
    prepare: Prepare | None = None
    set_up: SetUp | None = None
    joins: bool = False

    def available(self) -> bool:
        """Whether its programs are installed."""
        return all(map(is_installed, self.programs))

    def archive_of(self, release: Release) -> Path:
        """Where its archive of a release is, or is going to be."""
        if self.archive == BUNDLE:
            return release.bundle
        return release.tree if self.archive == TREE else release.cache / self.archive


def is_installed(program: str) -> bool:
    """Whether children of the bench find a program."""
    return shutil.which(program, path=SEARCH_PATH) is not None


def prepared(peer: Peer, release: Release) -> Path:
    """Return a peer's archive of a release, made now unless it is cached."""
    archive = peer.archive_of(release)
    if peer.prepare is None or archive.exists():
        return archive
    unfinished = archive.with_name(archive.name + ".unfinished")
    if unfinished.is_dir():
        shutil.rmtree(unfinished)
    unfinished.unlink(missing_ok=True)
    peer.prepare(release, unfinished)
    return unfinished.rename(archive)


def install(
    peer: Peer, releases: Sequence[Release], disk: Path, previous: Sequence[Release] = ()
) -> list[Command]:
    """The commands by which a tool brings releases, of one app each, to a disk.

    Args:
        previous: Releases that are there; of the same apps, if any.
    """
    there = {each.name: each for each in previous}
    chain = [
        each
        for release in releases
        for each in peer.install(prepared(peer, release), release, disk, there.get(release.name))
    ]
    if not peer.joins:
        return chain
    archives = [each.argv[-1] for each in chain]
    return [replace(chain[0], argv=(*chain[0].argv[:-1], *archives))]


def _make(*chain: Command) -> None:
    run(chain, time_limit_s=_PREPARE_LIMIT_S)


# tar, bsdtar


def _prepare_tar(release: Release, archive: Path) -> None:
    compress = f"zstd -{ZSTD_LEVEL} -T0 -q"
    _make(command("tar", "--sort=name", "-I", compress, "-cf", archive, "-C", release.tree, "."))


def _install_tar(archive: Path, release: Release, disk: Path, _: Release | None) -> list[Command]:
    (disk / release.directory).mkdir()
    return [command("tar", "--zstd", "-xf", archive, "-C", disk / release.directory)]


def _install_bsdtar(
    archive: Path, release: Release, disk: Path, _: Release | None
) -> list[Command]:
    (disk / release.directory).mkdir()
    return [command("bsdtar", "-xf", archive, "-C", disk / release.directory)]


# squashfs


def _prepare_squashfs(release: Release, archive: Path) -> None:
    options = ["-comp", "zstd", "-Xcompression-level", ZSTD_LEVEL, "-no-progress", "-quiet"]
    _make(command("mksquashfs", release.tree, archive, *options))


def _install_squashfs(
    archive: Path, release: Release, disk: Path, _: Release | None
) -> list[Command]:
    return [command("unsquashfs", "-q", "-n", "-d", disk / release.directory, archive)]


# casync


def _prepare_casync(release: Release, archive: Path) -> None:
    archive.mkdir()
    store, index = f"--store={archive}/default.castr", archive / "tree.caidx"
    _make(command("casync", "make", store, index, release.tree))


def _install_casync(
    archive: Path, release: Release, disk: Path, previous: Release | None
) -> list[Command]:
    store, index = f"--store={archive}/default.castr", archive / "tree.caidx"
    seed = [f"--seed={disk / previous.directory}"] if previous else []
    return [command("casync", "extract", store, *seed, index, disk / release.directory)]


# nix


def _nix(root: Path, *words: str | Path) -> Command:
    options = ["--option", "build-users-group", "", "--store", f"local?root={root}"]
    return command("nix-store", *options, *words)


def _prepare_nix(release: Release, archive: Path) -> None:
    root = release.cache / "nix-root"
    _make(_nix(root, "--init"))
    script = (
        'path=$(nix-store --option build-users-group "" --store "local?root=$1" --add "$2") &&'
        ' nix-store --option build-users-group "" --store "local?root=$1" --export "$path"'
        f' | zstd -{ZSTD_LEVEL} -T0 -q -o "$3"'
    )
    _make(command("bash", "-o", "pipefail", "-c", script, "sh", root, release.tree, archive))
    _make(command("chmod", "-R", "u+w", root))
    shutil.rmtree(root)


def _set_up_nix(disk: Path) -> None:
    run([_nix(disk, "--init")])


def _install_nix(archive: Path, _: Release, disk: Path, __: Release | None) -> list[Command]:
    script = (
        'zstd -dcq "$1" |'
        ' nix-store --option build-users-group "" --store "local?root=$2" --import >&2'
    )
    return [command("bash", "-o", "pipefail", "-c", script, "sh", archive, disk)]


# ostree


def _prepare_ostree(release: Release, archive: Path) -> None:
    repo = f"--repo={archive}"
    _make(
        command("ostree", repo, "init", "--mode=archive"),
        command("ostree", repo, "commit", "-b", release.directory, f"--tree=dir={release.tree}"),
    )


def _set_up_ostree(disk: Path) -> None:
    run([command("ostree", f"--repo={disk}/repo", "init", "--mode=bare")])


def _install_ostree(
    archive: Path, release: Release, disk: Path, _: Release | None
) -> list[Command]:
    repo = f"--repo={disk}/repo"
    return [
        command("ostree", repo, "pull-local", archive, release.directory),
        command("ostree", repo, "checkout", "-H", release.directory, disk / release.directory),
    ]


# dpkg


def _prepare_dpkg(release: Release, archive: Path) -> None:
    stage = release.cache / "dpkg-stage"
    shutil.rmtree(stage, ignore_errors=True)
    (stage / "DEBIAN").mkdir(parents=True)
    (stage / "DEBIAN/control").write_text(
        f"Package: {release.name}\nVersion: {release.version}\nArchitecture: all\n"
        "Maintainer: bench <bench@example.org>\nDescription: a tree to measure with\n"
    )
    (stage / "opt").mkdir()
    _make(
        command("cp", "-a", release.tree, stage / "opt" / release.name),
        command("dpkg-deb", "-Zzstd", f"-z{ZSTD_LEVEL}", "--build", stage, archive),
    )
    shutil.rmtree(stage)


def _set_up_dpkg(disk: Path) -> None:
    admin = disk / "var/lib/dpkg"
    for name in ("info", "updates", "triggers"):
        (admin / name).mkdir(parents=True)
    for name in ("status", "available"):
        (admin / name).touch()


def _install_dpkg(archive: Path, _: Release, disk: Path, __: Release | None) -> list[Command]:
    options = ["--force-script-chrootless", "--log=/dev/null"]
    return [command("dpkg", f"--root={disk}", *options, "-i", archive)]


# podman


def _prepare_podman(release: Release, archive: Path) -> None:
    layer = archive.with_name("layer.tar.zst")
    _prepare_tar(release, layer)
    oci.write_image(archive, layer, f"{release.name}:{release.version}")
    layer.unlink()


def _podman(disk: Path) -> list[str]:
    return [
        f"--root={disk}/containers",
        f"--runroot={disk}/run",
        "--storage-driver=overlay",
        "--cgroup-manager=cgroupfs",
    ]


def _install_podman(archive: Path, _: Release, disk: Path, __: Release | None) -> list[Command]:
    (disk / "tmp").mkdir(exist_ok=True)
    return [
        command("podman", *_podman(disk), "load", "-q", "-i", archive, TMPDIR=str(disk / "tmp"))
    ]


# cp, and what no tool can go below


def _install_cp(archive: Path, release: Release, disk: Path, _: Release | None) -> list[Command]:
    return [command("cp", "-a", archive, disk / release.directory)]


def _prepare_memory(release: Release, archive: Path) -> None:
    _make(command(sys.executable, "-I", _HERE / "create_files.py", "pack", release.tree, archive))


def _install_memory(
    archive: Path, release: Release, disk: Path, _: Release | None
) -> list[Command]:
    script = _HERE / "create_files.py"
    return [command(sys.executable, "-I", script, "create", archive, disk / release.directory)]


TAR = Peer(
    name="tar --zstd -x",
    programs=("tar", "zstd"),
    package="zstd",
    archive="tree.tar.zst",
    prepare=_prepare_tar,
    install=_install_tar,
)
"""The base of all ratios."""

PEERS: Sequence[Peer] = (
    TAR,
    Peer(
        name="bsdtar -x",
        programs=("bsdtar", "zstd"),
        package="libarchive-tools",
        archive="tree.tar.zst",
        prepare=_prepare_tar,
        install=_install_bsdtar,
    ),
    Peer(
        name="unsquashfs",
        programs=("mksquashfs", "unsquashfs"),
        package="squashfs-tools",
        archive="tree.squashfs",
        prepare=_prepare_squashfs,
        install=_install_squashfs,
    ),
    Peer(
        name="casync extract",
        programs=("casync",),
        package="casync",
        archive="casync",
        prepare=_prepare_casync,
        install=_install_casync,
    ),
    Peer(
        name="nix-store --import",
        programs=("nix-store", "zstd"),
        package="nix-bin",
        archive="tree.nar.zst",
        prepare=_prepare_nix,
        set_up=_set_up_nix,
        install=_install_nix,
    ),
    Peer(
        name="ostree pull-local, checkout",
        programs=("ostree",),
        package="ostree",
        archive="ostree",
        prepare=_prepare_ostree,
        set_up=_set_up_ostree,
        install=_install_ostree,
    ),
    Peer(
        name="dpkg -i",
        programs=("dpkg", "dpkg-deb"),
        package="dpkg",
        archive="tree.deb",
        prepare=_prepare_dpkg,
        set_up=_set_up_dpkg,
        install=_install_dpkg,
        joins=True,
    ),
    Peer(
        name="podman load",
        programs=("podman", "zstd"),
        package="podman",
        archive="image.oci.tar",
        prepare=_prepare_podman,
        install=_install_podman,
    ),
    Peer(
        name="cp -a",
        programs=("cp",),
        package="coreutils",
        archive=TREE,
        install=_install_cp,
    ),
    Peer(
        name="create from memory",
        programs=(),
        package="",
        archive="tree.packed",
        prepare=_prepare_memory,
        install=_install_memory,
    ),
)
