"""Tar headers as a pure function of the manifest; tar is never parsed. docs/format.md, "Payload".

POSIX ustar; a name, link target or size that ustar cannot hold gets a pax header before it.
"""

from appbundle.layout import BUNDLE_DIR

BLOCK = 512
MANIFEST_NAME = f"{BUNDLE_DIR}/manifest.json"
END = bytes(2 * BLOCK)
"""What ends a tar stream."""

MAX_NAME = 100
"""Bytes of a path or target that a header holds."""
MAX_SIZE = 8 << 30
"""From this size on a header cannot say it."""


def padding(size: int) -> int:
    """Bytes that fill a member's content up to whole blocks."""
    return -size % BLOCK


def file_header(path: str, *, size: int, executable: bool, mtime: int) -> bytes:
    """The header of a regular file; its content and `padding(size)` zero bytes follow it."""
    return _member(path, "0", mode=0o755 if executable else 0o644, size=size, mtime=mtime)


def directory_header(path: str, *, mtime: int) -> bytes:
    """The header of a directory."""
    return _member(path + "/", "5", mode=0o755, size=0, mtime=mtime)


def link_header(path: str, target: str, *, mtime: int) -> bytes:
    """The header of a symbolic link."""
    return _member(path, "2", mode=0o777, size=0, mtime=mtime, target=target)


def file_header_size(path: str, size: int) -> int:
    """`len(file_header(path, size=size, …))` without making it; installers ask for each file."""
    if path.isascii() and len(path) <= MAX_NAME and size < MAX_SIZE:
        return BLOCK
    return len(file_header(path, size=size, executable=False, mtime=0))


def directory_header_size(path: str) -> int:
    """`len(directory_header(path, …))`."""
    if path.isascii() and len(path) < MAX_NAME:
        return BLOCK
    return len(directory_header(path, mtime=0))


def link_header_size(path: str, target: str) -> int:
    """`len(link_header(path, target, …))`."""
    if path.isascii() and target.isascii() and len(path) <= MAX_NAME and len(target) <= MAX_NAME:
        return BLOCK
    return len(link_header(path, target, mtime=0))


def _member(path: str, kind: str, *, mode: int, size: int, mtime: int, target: str = "") -> bytes:
    records = b""
    name, link = path.encode(), target.encode()
    if len(name) > MAX_NAME or not name.isascii():
        records += _pax_record("path", name)
        name = name[:MAX_NAME]
    if len(link) > MAX_NAME or not link.isascii():
        records += _pax_record("linkpath", link)
        link = link[:MAX_NAME]
    if size >= MAX_SIZE:
        records += _pax_record("size", str(size).encode())
    plain = _ustar(
        name, kind, mode=mode, size=size if size < MAX_SIZE else 0, mtime=mtime, link=link
    )
    if not records:
        return plain
    extended = _ustar(b"././@PaxHeader", "x", mode=0o644, size=len(records), mtime=mtime, link=b"")
    return extended + records + bytes(padding(len(records))) + plain


def _pax_record(key: str, value: bytes) -> bytes:
    body = b" " + key.encode() + b"=" + value + b"\n"
    length = len(body) + len(str(len(body)))
    # The record's length counts its own digits, which may make it one digit longer.
    if len(str(length)) + len(body) != length:
        length = len(str(length)) + len(body)
    return str(length).encode() + body


def _ustar(name: bytes, kind: str, *, mode: int, size: int, mtime: int, link: bytes) -> bytes:
    head = b"%b%07o\0%07o\0%07o\0%011o\0%011o\0" % (name.ljust(100, b"\0"), mode, 0, 0, size, mtime)
    tail = b"%b%bustar\x0000%b%b%07o\0%07o\0" % (
        kind.encode(),
        link.ljust(100, b"\0"),
        b"root".ljust(32, b"\0"),
        b"root".ljust(32, b"\0"),
        0,
        0,
    )
    block = (head + b" " * 8 + tail).ljust(BLOCK, b"\0")
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]
