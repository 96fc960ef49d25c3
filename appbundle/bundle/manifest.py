"""The manifest: what a bundle is, may do and contains. docs/format.md, "Manifest".

A manifest is canonical JSON: the one encoding that `encode_manifest` gives. Reading refuses any
other byte sequence, which disposes of duplicate keys, NaN, odd escapes and unknown fields at once.
"""

from typing import Literal

import msgspec

from appbundle.bundle.services import Service
from appbundle.bundle.settings import Setting, Template
from appbundle.bundle.tasks import Rollback, Task
from appbundle.names import Digest

FORMAT = 1


class File(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False):
    """A regular file, in JSON `[path, size, sha256, executable, since]`.

    Args:
        path: Relative, normal, `/`-separated, UTF-8.
        size: Bytes.
        sha256: Of the content.
        executable: Mode 0755 if true, else 0644; no other modes exist.
        since: The release in which this path's content last changed.
    """

    path: str
    size: int
    sha256: Digest
    executable: bool
    since: int


class Link(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False):
    """A symbolic link, in JSON `[path, target]`; the target is as readlink(2) gives it."""

    path: str
    target: str


class Frame(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False):
    """A payload frame, in JSON `[compressed_size, size, sha256]`.

    Args:
        compressed_size: Bytes in the bundle.
        size: Bytes of the tar stream that it holds, at most `MAX_FRAME_SIZE`.
        sha256: Of the *compressed* bytes, so that they are checked before decompression.
    """

    compressed_size: int
    size: int
    sha256: Digest


class Run(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True
):
    """What `appb run` starts.

    Args:
        argv: The program (absolute, inside the bundle) and its arguments.
        environment: All that the process gets beside PATH, HOME, USER, LANG and TMPDIR.
        directory: Working directory, absolute, inside the bundle or the state directory.
        network: `host` (default) or `none`.
    """

    argv: tuple[str, ...]
    environment: dict[str, str] = {}
    directory: str = "/"
    network: Literal["host", "none"] = "host"


class Requires(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True
):
    """What a node must have; checked before anything is written.

    Args:
        architecture: As `uname -m` says (`x86_64`, `aarch64`), or `any`.
        base: Empty for a self-contained root, or the family of the host's `/usr` (`debian-12`).
        kernel: The least kernel release, as `5.10`; empty for any.
    """

    architecture: str = "any"
    base: str = ""
    kernel: str = ""


class Manifest(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True
):
    """Everything about one bundle.

    Args:
        format: `FORMAT`.
        name: The app.
        version: For people; never compared.
        release: Grows by every release of an app; what downgrade protection compares.
        summary: One line.
        licence: An SPDX expression.
        homepage: URL.
        source: Where the sources are, URL.
        created: Seconds since the epoch (SOURCE_DATE_EPOCH); the mtime of every tar member.
        previous: Digest of the previous bundle's manifest that ordered the payload, or empty.
        compression: What made the frames (`zstd 1.5.7 level 12`); packing again needs the same.
        requires: What a node must have.
        run: The declared foreground command, if any.
        commands: What people may call by name: program (absolute, inside the bundle) and first
            arguments, by the command's name; sorted.
        services: What a node keeps running.
        settings: What an administrator may change.
        templates: Files that follow from settings.
        tasks: What must be done to the state when releases change.
        rollback: What going back from this release means; `code` where nothing is said.
        outward: Paths of the links that may point out of the bundle.
        directories: Every directory, parents before children, sorted.
        links: Every symbolic link, sorted by path.
        files: Every regular file in payload order: by `since`, then by path.
        frames: The payload's frames in order.
    """

    format: Literal[1]
    name: str
    version: str
    release: int
    summary: str = ""
    licence: str = ""
    homepage: str = ""
    source: str = ""
    created: int = 0
    previous: str = ""
    compression: str = ""
    requires: Requires = Requires()
    run: Run | None = None
    commands: dict[str, tuple[str, ...]] = {}
    services: tuple[Service, ...] = ()
    settings: tuple[Setting, ...] = ()
    templates: tuple[Template, ...] = ()
    tasks: tuple[Task, ...] = ()
    rollback: tuple[Rollback, ...] = ()
    outward: tuple[str, ...] = ()
    directories: tuple[str, ...] = ()
    links: tuple[Link, ...] = ()
    files: tuple[File, ...] = ()
    frames: tuple[Frame, ...] = ()
