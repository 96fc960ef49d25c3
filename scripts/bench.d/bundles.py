"""Bundles made and read by the product's own pure rooms: for a thousand apps, and for 2 GB."""

import hashlib
import os
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
from signing import Sign

from appbundle.bundle import container, payload, rules
from appbundle.bundle.manifest import File, Frame, Link, Manifest
from appbundle.bundle.services import Service
from appbundle.bundle.statement import Signed, Statement, encode_statement, parse_statement
from appbundle.names import AppName, Digest, Version

Content = Path | bytes | str
"""A file that holds the content, the content itself, or a symbolic link's target."""

_CREATED = 1_700_000_000


def read_manifest(bundle: Path) -> Manifest:
    """Read a bundle's manifest without asking who signed it."""
    with bundle.open("rb", buffering=0) as source:
        head = container.read_head(source.read)
        statement = parse_statement(head.signed.statement)
        frame = container.read_exactly(
            source.read, statement.manifest_frame_size, of="manifest frame"
        )
    raw = container.open_manifest_frame(
        frame, size=statement.manifest_size, sha256=statement.manifest_sha256
    )
    return rules.read_manifest(raw)


def write_bundle(
    target: Path,
    *,
    name: str,
    version: str,
    release: int,
    contents: Mapping[str, Content],
    sign: Sign,
    since: Mapping[tuple[str, str], int] | None = None,
    level: int = 1,
    services: tuple[Service, ...] = (),
) -> None:
    """Write a signed bundle.

    Args:
        contents: By paths inside the bundle; the directories follow from the paths.
        since: By path and digest, the release in which a content last changed, if not this one.
        level: How hard zstd tries.
        services: What it declares.
    """
    links = tuple(Link(p, c) for p, c in sorted(contents.items()) if isinstance(c, str))
    files = [_describe(p, c, release) for p, c in contents.items() if not isinstance(c, str)]
    files = [_aged(file, since or {}) for file in files]
    files.sort(key=lambda file: (file.since, file.path))
    directories = tuple(sorted({d for path in contents for d in _parents(path)}))
    targets = {link.path: link.target for link in links}
    outward = tuple(link.path for link in links if rules.link_leaves(link, targets))
    shape = payload.measure(directories, links, files)
    plain = payload.plain_frames(
        directories=directories,
        links=links,
        files=files,
        mtime=_CREATED,
        sizes=payload.cut(shape, files),
        read=lambda file: _pieces(contents[file.path]),
    )
    frames: list[Frame] = []
    body = target.with_suffix(".payload")
    with body.open("wb") as out:
        for frame, size in _compressed(plain, level):
            digest = Digest(hashlib.sha256(frame).hexdigest())
            frames.append(Frame(compressed_size=len(frame), size=size, sha256=digest))
            out.write(frame)
    manifest = Manifest(
        format=1,
        name=name,
        version=version,
        release=release,
        created=_CREATED,
        services=services,
        outward=outward,
        directories=directories,
        links=links,
        files=tuple(files),
        frames=tuple(frames),
    )
    _assemble(target, manifest, body, sign)


def declare(bundle: Path, target: Path, *, sign: Sign, services: Iterable[Service]) -> None:
    """Write a bundle that is as another, but for its services."""
    manifest = msgspec.structs.replace(read_manifest(bundle), services=tuple(services))
    body = target.with_suffix(".payload")
    with bundle.open("rb") as source, body.open("wb") as out:
        head = container.read_head(source.read)
        source.seek(parse_statement(head.signed.statement).manifest_frame_size, os.SEEK_CUR)
        left = sum(frame.compressed_size for frame in manifest.frames)
        while piece := source.read(min(left, 1 << 20)):
            out.write(piece)
            left -= len(piece)
    _assemble(target, manifest, body, sign)


def _assemble(target: Path, manifest: Manifest, body: Path, sign: Sign) -> None:
    raw = rules.encode_manifest(manifest)
    frame = container.encode_manifest_frame(raw, mtime=manifest.created, level=3)
    statement = encode_statement(
        Statement(
            name=AppName(manifest.name),
            version=Version(manifest.version),
            release=manifest.release,
            manifest_frame_size=len(frame),
            manifest_frame_sha256=Digest(hashlib.sha256(frame).hexdigest()),
            manifest_size=len(raw),
            manifest_sha256=Digest(hashlib.sha256(raw).hexdigest()),
        )
    )
    with target.open("wb") as out, body.open("rb") as source:
        out.write(container.encode_head(Signed(statement, (sign(statement),))))
        out.write(frame)
        while piece := source.read(1 << 20):
            out.write(piece)
        out.write(container.END_FRAME)
    body.unlink()


def _aged(file: File, since: Mapping[tuple[str, str], int]) -> File:
    age = since.get((file.path, file.sha256))
    return file if age is None else msgspec.structs.replace(file, since=age)


def _describe(path: str, content: Path | bytes, release: int) -> File:
    digest, size = hashlib.sha256(), 0
    for piece in _pieces(content):
        digest.update(piece)
        size += len(piece)
    return File(
        path=path,
        size=size,
        sha256=Digest(digest.hexdigest()),
        executable=isinstance(content, Path) and os.access(content, os.X_OK),
        since=release,
    )


def _pieces(content: Content) -> Iterable[bytes]:
    assert not isinstance(content, str)
    if isinstance(content, bytes):
        yield content
        return
    with content.open("rb") as source:
        while piece := source.read(1 << 20):
            yield piece


def _compressed(plain: Iterable[bytes], level: int) -> Iterable[tuple[bytes, int]]:
    """Compress frames in two threads (zstd frees the interpreter), a few ahead of their use."""
    ahead = []
    with ThreadPoolExecutor(2) as threads:
        for each in plain:
            ahead.append((threads.submit(container.compress, each, level=level), len(each)))
            if len(ahead) > 4:
                frame, size = ahead.pop(0)
                yield frame.result(), size
        for frame, size in ahead:
            yield frame.result(), size


def _parents(path: str) -> Iterable[str]:
    while "/" in path:
        path = path.rpartition("/")[0]
        yield path
