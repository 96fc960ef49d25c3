"""Other tools that bring the next release over a network to where the one before is."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from measure import Command, command, output, run
from peers import PEERS as UNPACKERS
from peers import Release, is_installed, prepared

_PREPARE_LIMIT_S = 900.0
_HERE = Path(__file__).parent


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetcher:
    """A tool to compare with.

    Args:
        name: As shown.
        programs: What must be on PATH.
        publish: Puts two releases into a folder (untimed, once).
        seed: Puts the older release where the tool expects it (untimed).
        fetch: The commands that are measured: from URL, work directory, older and newer release.
        counts_itself: Gives the bytes out of the output of `fetch`, where no web server counts.
    """

    name: str
    programs: tuple[str, ...]
    publish: Callable[[Path, Release, Release], None]
    seed: Callable[[str, Path, Release], None]
    fetch: Callable[[str, Path, Release, Release], list[Command]]
    counts_itself: Callable[[str], int] | None = None

    def available(self) -> bool:
        """Whether its programs are installed."""
        return all(map(is_installed, self.programs))


def _make(*chain: Command) -> None:
    run(chain, time_limit_s=_PREPARE_LIMIT_S)


def _nothing(_: str, __: Path, ___: Release) -> None:
    """There is nothing to put anywhere."""


# The whole file


def _publish_file(www: Path, old: Release, new: Release) -> None:
    for release in (old, new):
        (www / f"{release.version}.bundle").symlink_to(release.bundle)


def _fetch_file(url: str, work: Path, _: Release, new: Release) -> list[Command]:
    return [command("curl", "-sf", "-o", work / "new.bundle", f"{url}/{new.version}.bundle")]


# casync


def _publish_casync(www: Path, old: Release, new: Release) -> None:
    for each in (old, new):
        index = www / f"{each.version}.caidx"
        _make(command("casync", "make", f"--store={www}/default.castr", index, each.tree))


def _seed_tree(_: str, work: Path, old: Release) -> None:
    _make(command("cp", "-a", old.tree, work / "old"))


def _fetch_casync(url: str, work: Path, _: Release, new: Release) -> list[Command]:
    options = [f"--store={url}/default.castr", f"--seed={work / 'old'}"]
    return [command("casync", "extract", *options, f"{url}/{new.version}.caidx", work / "new")]


# zchunk


def _publish_zchunk(www: Path, old: Release, new: Release) -> None:
    for each in (old, new):
        tar = www / "tree.tar"
        _make(
            command("tar", "--sort=name", "-cf", tar, "-C", each.tree, "."),
            command("zck", "-o", www / f"{each.version}.tar.zck", tar),
        )
        tar.unlink()


def _seed_zchunk(url: str, work: Path, old: Release) -> None:
    _make(command("curl", "-sf", "-o", work / "old.zck", f"{url}/{old.version}.tar.zck"))


def _fetch_zchunk(url: str, work: Path, _: Release, new: Release) -> list[Command]:
    script = 'cd "$1" && exec zckdl -q -s old.zck "$2"'
    return [command("sh", "-c", script, "sh", work, f"{url}/{new.version}.tar.zck")]


# rsync


def _publish_rsync(www: Path, old: Release, new: Release) -> None:
    for each in (old, new):
        (www / each.version).symlink_to(each.tree)
    (www / "shell").write_text('#!/bin/sh\nshift\nexec "$@"\n')
    (www / "shell").chmod(0o755)


def _fetch_rsync(url: str, work: Path, _: Release, new: Release) -> list[Command]:
    # Times are all the same in reproducible trees, so contents must be compared.
    www = url.removeprefix("file://")
    options = ["-a", "--checksum", "--delete", "-z", "--stats", "-e", f"{www}/shell"]
    return [command("rsync", *options, f"other:{www}/{new.version}/", f"{work}/old/")]


def _bytes_of_rsync(said: str) -> int:
    return sum(
        int(number.replace(",", ""))
        for number in re.findall(r"^Total bytes (?:sent|received): ([\d,]+)$", said, re.MULTILINE)
    )


# ostree


def _publish_ostree(www: Path, old: Release, new: Release) -> None:
    repo = f"--repo={www}/ostree"
    _make(command("ostree", repo, "init", "--mode=archive"))
    for each in (old, new):
        _make(command("ostree", repo, "commit", "-b", each.version, f"--tree=dir={each.tree}"))
    _make(command("ostree", repo, "summary", "-u"))


def _publish_delta(www: Path, old: Release, new: Release) -> None:
    _publish_ostree(www, old, new)
    ends = [f"--from={old.version}", f"--to={new.version}"]
    repo = f"--repo={www}/ostree"
    _make(
        command("ostree", repo, "static-delta", "generate", *ends),
        command("ostree", repo, "summary", "-u"),
    )


def _seed_ostree(url: str, work: Path, old: Release) -> None:
    repo = f"--repo={work}/repo"
    _make(
        command("ostree", repo, "init", "--mode=bare"),
        command("ostree", repo, "remote", "add", "--no-gpg-verify", "bench", f"{url}/ostree"),
        command("ostree", repo, "pull", "bench", old.version),
    )


def _fetch_ostree(_: str, work: Path, old: Release, new: Release) -> list[Command]:
    repo = f"--repo={work}/repo"
    # A delta is from the commit that the branch has, so the branch is told first.
    return [
        command("ostree", repo, "refs", "--create", f"bench:{new.version}", f"bench:{old.version}"),
        command("ostree", repo, "pull", "bench", new.version),
    ]


# skopeo


def _publish_image(www: Path, old: Release, new: Release) -> None:
    podman = next(each for each in UNPACKERS if each.name == "podman load")
    for each in (old, new):
        (www / f"{each.version}.tar").symlink_to(prepared(podman, each))


def push_images(www: Path, port: int, releases: Sequence[Release]) -> None:
    """Put published images into a registry."""
    for each in releases:
        target = f"docker://127.0.0.1:{port}/bench:{each.version}"
        source = f"oci-archive:{www}/{each.version}.tar"
        _make(command("skopeo", "copy", "-q", "--dest-tls-verify=false", source, target))


def _pull(url: str, work: Path, version: str) -> Command:
    source = f"docker://{url.removeprefix('http://')}/bench:{version}"
    return command(
        *("skopeo", "copy", "-q", "--src-tls-verify=false", source),
        f"oci:{work}/images:{version}",
    )


def _seed_image(url: str, work: Path, old: Release) -> None:
    _make(_pull(url, work, old.version))


def _fetch_image(url: str, work: Path, _: Release, new: Release) -> list[Command]:
    return [_pull(url, work, new.version)]


REGISTRY = "skopeo copy, one layer"
"""The one that needs a registry behind the web server."""

FETCHERS: Sequence[Fetcher] = (
    Fetcher(
        name="curl, the whole file",
        programs=("curl",),
        publish=_publish_file,
        seed=_nothing,
        fetch=_fetch_file,
    ),
    Fetcher(
        name="casync extract --seed",
        programs=("casync",),
        publish=_publish_casync,
        seed=_seed_tree,
        fetch=_fetch_casync,
    ),
    Fetcher(
        name="zckdl",
        programs=("zck", "zckdl", "curl"),
        publish=_publish_zchunk,
        seed=_seed_zchunk,
        fetch=_fetch_zchunk,
    ),
    Fetcher(
        name="rsync --checksum -z",
        programs=("rsync",),
        publish=_publish_rsync,
        seed=_seed_tree,
        fetch=_fetch_rsync,
        counts_itself=_bytes_of_rsync,
    ),
    Fetcher(
        name="ostree pull",
        programs=("ostree",),
        publish=_publish_ostree,
        seed=_seed_ostree,
        fetch=_fetch_ostree,
    ),
    Fetcher(
        name="ostree pull, static delta",
        programs=("ostree",),
        publish=_publish_delta,
        seed=_seed_ostree,
        fetch=_fetch_ostree,
    ),
    Fetcher(
        name=REGISTRY,
        programs=("skopeo", "docker-registry", "podman", "zstd"),
        publish=_publish_image,
        seed=_seed_image,
        fetch=_fetch_image,
    ),
)


def said_by(chain: Sequence[Command]) -> str:
    """Run commands and give what they wrote to stdout."""
    return "".join(output(each) for each in chain)
