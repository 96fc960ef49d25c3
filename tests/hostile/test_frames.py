"""Frames and tar headers that lie below a right signature. docs/security.md: 7-9, 11-14, 16, 17."""

import os
import struct
import time
from collections.abc import Callable

import pytest
import zstandard

from appbundle.bundle import container, payload, tar
from appbundle.bundle.statement import parse_statement
from appbundle.flows import sign, verify
from appbundle.store.source import BundleStream
from tests.bundles import CREATED, LEVEL, WEB, Draft, File, Node, complete, draft
from tests.hostile.refusal import assert_refused

BIG = {"big": File(os.urandom(3000) + b"tail" * 500), "other": File("other")}

Capsys = pytest.CaptureFixture[str]


def stream_of(drafted: Draft) -> bytes:
    """The plain payload of a draft."""
    return b"".join(
        zstandard.ZstdDecompressor().decompress(each, max_output_size=payload.MAX_FRAME_SIZE)
        for each in drafted.frames
    )


def streamed(plain: bytes) -> bytes:
    """A frame that does not say how large it is."""
    compressor = zstandard.ZstdCompressor(write_content_size=False).compressobj()
    return compressor.compress(plain) + compressor.flush()


def understated(plain: bytes, size: int) -> bytes:
    """A frame whose header says less than its blocks give."""
    frame = bytearray(container.compress(plain, level=LEVEL))
    assert frame[4] & 0xC0 == 0x80, "its content size takes four bytes"
    is_single_segment = bool(frame[4] & 0x20)
    struct.pack_into("<I", frame, 5 if is_single_segment else 6, size)
    return bytes(frame)


def with_window(plain: bytes, exponent: int) -> bytes:
    """A frame of one raw block that asks for a window of 2^(10 + exponent) bytes."""
    block = (1 | len(plain) << 3).to_bytes(3, "little") + plain
    return struct.pack("<IBBI", 0xFD2FB528, 0x80, exponent << 3, len(plain)) + block


def with_dictionary(plain: bytes) -> bytes:
    """A frame of one raw block that wants dictionary 7."""
    block = (1 | len(plain) << 3).to_bytes(3, "little") + plain
    return struct.pack("<IBBI", 0xFD2FB528, 0xA1, 7, len(plain)) + block


def with_wrong_checksum(plain: bytes) -> bytes:
    """A frame whose own checksum does not fit."""
    frame = zstandard.ZstdCompressor(write_checksum=True).compress(plain)
    return frame[:-1] + bytes((frame[-1] ^ 1,))


def skippable(content: bytes) -> bytes:
    """A skippable frame."""
    return struct.pack("<II", 0x184D2A50, len(content)) + content


def honest(plain: bytes) -> bytes:
    """A frame as it should be."""
    return container.compress(plain, level=LEVEL)


FRAMES: dict[str, Callable[[bytes], bytes]] = {
    "bomb": lambda plain: honest(bytes(256 << 20)),
    "bomb-that-hides-its-size": lambda plain: streamed(bytes(256 << 20)),
    "bomb-that-understates": lambda plain: understated(bytes(1 << 20), len(plain)),
    "large-bomb-that-understates": lambda plain: understated(bytes(256 << 20), len(plain)),
    "one-byte-over": lambda plain: honest(plain + b"\0"),
    "one-byte-over-understated": lambda plain: understated(plain + bytes(1 << 16), len(plain)),
    "one-byte-short": lambda plain: honest(plain[:-1]),
    "no-size": streamed,
    "window-2-GiB": lambda plain: with_window(plain, 21),
    "window-2-TiB": lambda plain: with_window(plain, 31),
    "dictionary": with_dictionary,
    "two-frames": lambda plain: honest(plain[:700]) + honest(plain[700:]),
    "two-frames-first-whole": lambda plain: honest(plain) + honest(b"more"),
    "empty-frame-behind": lambda plain: honest(plain) + container.PREAMBLE,
    "skippable-before": lambda plain: skippable(b"hidden") + honest(plain),
    "skippable-behind": lambda plain: honest(plain) + skippable(b"hidden"),
    "trailing-byte": lambda plain: honest(plain) + b"\0",
    "cut": lambda plain: honest(plain)[:-1],
    "cut-to-header": lambda plain: honest(plain)[:6],
    "checksum": with_wrong_checksum,
    "legacy": lambda plain: b"\x27" + honest(plain)[1:],
    "gzip": lambda plain: b"\x1f\x8b\x08" + bytes(64),
    "not-compressed": lambda plain: plain,
    "one-byte": lambda plain: b"\x28",
}


@pytest.mark.parametrize("make", FRAMES.values(), ids=[f"14-{name}" for name in FRAMES])
def test_hostile_frame_is_refused(
    running: Node, make: Callable[[bytes], bytes], capsys: Capsys
) -> None:
    """Row 14: a frame is exactly one zstd frame of exactly the signed size, or it is refused."""
    made = draft(BIG)
    plain = stream_of(made)
    made.with_compressed([(make(plain), len(plain))])
    assert_refused(running, running.write(made), "corrupt", "frame", capsys=capsys)


@pytest.mark.parametrize("make", FRAMES.values(), ids=[f"14-{name}" for name in FRAMES])
def test_hostile_manifest_frame_is_refused(
    running: Node, make: Callable[[bytes], bytes], capsys: Capsys
) -> None:
    """Row 14: the manifest's frame too."""
    made = draft(BIG)
    _, frame = made.papers()
    statement = parse_statement(made.papers()[0])
    plain = zstandard.ZstdDecompressor().decompress(frame)
    manifest = plain[tar.BLOCK : tar.BLOCK + statement.manifest_size]
    made.raw, made.manifest_frame = manifest, make(plain)
    assert_refused(running, running.write(made), "corrupt", "frame", capsys=capsys)


def wrong_sizes(made: Draft, change: int) -> Draft:
    """Say that the first frame unpacks to another size than the payload needs."""
    first = made.manifest.frames[0]
    return made.with_compressed([(made.frames[0], first.size + change)])


@pytest.mark.parametrize(
    ("make", "words"),
    [
        pytest.param(lambda: wrong_sizes(draft(BIG), 1), "for a payload of", id="17-more"),
        pytest.param(lambda: wrong_sizes(draft(BIG), -1), "for a payload of", id="17-less"),
        pytest.param(
            lambda: draft(BIG).with_compressed([]), "frames of 0 bytes in all", id="17-none"
        ),
        pytest.param(lambda: with_hidden_member(), "frames of", id="17-hidden-member"),
        pytest.param(
            lambda: draft(BIG).with_stream(bytes(8 << 20), [8 << 20]),
            "a frame's size is out of range: 0",
            id="14-frame-too-large",
        ),
    ],
)
def test_frames_that_do_not_add_up_are_refused(
    running: Node, make: Callable[[], Draft], words: str, capsys: Capsys
) -> None:
    """Frames hold exactly what the manifest lists, and nothing beside it."""
    assert_refused(running, running.write(make()), "bad-manifest", words, capsys=capsys)


def with_hidden_member() -> Draft:
    """A payload with one more tar member than the manifest has files (Janus)."""
    made = draft(WEB)
    hidden = tar.file_header("lib/evil.py", size=4, executable=False, mtime=CREATED) + b"evil"
    stream = stream_of(made) + hidden + bytes(508)
    return made.with_stream(stream, [len(stream)])


def swapped(made: Draft, old: bytes, new: bytes) -> Draft:
    """Put other bytes of the same length into the payload; frames and digests fit them."""
    assert len(old) == len(new)
    stream = stream_of(made)
    assert stream.count(old) == 1
    return made.with_stream(
        stream.replace(old, new), [frame.size for frame in made.manifest.frames]
    )


def other_content() -> Draft:
    """Frames that hold another content than the file's digest says."""
    made = draft(WEB | {"bin/web": File("#!/bin/sh\necho new\n", executable=True)})
    return swapped(made, b"#!/bin/sh\necho new\n", b"#!/bin/sh\nrm -rf /\n")


def other_content_across_frames() -> Draft:
    """The same for a file that spans several frames, in its last one."""
    made = draft({"big": File(bytes(9 << 20))})
    stream = bytearray(stream_of(made))
    stream[-1] = 1
    return made.with_stream(bytes(stream), [frame.size for frame in made.manifest.frames])


@pytest.mark.parametrize(
    ("make", "entry"),
    [
        pytest.param(other_content, "bin/web", id="content"),
        pytest.param(other_content_across_frames, "big", id="content-across-frames"),
    ],
)
def test_other_content_is_refused_and_not_pooled(
    running: Node, make: Callable[[], Draft], entry: str, capsys: Capsys
) -> None:
    """A content with another digest than the signed one reaches neither a version nor the pool."""
    path = running.write(make())
    assert_refused(
        running, path, "corrupt", f"the content of {entry} is not what was signed", capsys=capsys
    )
    running.install(running.write(draft(WEB, version="1.0")))
    assert running.tree() == complete(WEB)
    assert verify.verify(running.context).ok


def test_first_bad_content_of_many_names_the_reason(running: Node, capsys: Capsys) -> None:
    """The exact refusal comes through, however many frames are still on their way."""
    made = draft({f"f{n:03d}": File(os.urandom(300 << 10)) for n in range(60)})
    made.contents[5] = bytes(len(made.contents[5]))
    path = running.write(made.with_frames())
    for _ in range(5):
        assert_refused(
            running, path, "corrupt", "the content of f005 is not what was signed", capsys=capsys
        )


def header_of(made: Draft, path: str) -> bytes:
    """The tar header of a file in a draft."""
    (file,) = (each for each in made.manifest.files if each.path == path)
    return tar.file_header(path, size=file.size, executable=file.executable, mtime=CREATED)


def other_header(**changes: bytes) -> Draft:
    """Change fields of bin/web's header, checksum and all."""
    made = draft(WEB)
    old = header_of(made, "bin/web")
    fields = {"name": (0, 100), "mode": (100, 8), "uid": (108, 8), "size": (124, 12)}
    fields |= {"mtime": (136, 12), "kind": (156, 1), "link": (157, 100), "major": (329, 8)}
    block = bytearray(old)
    for name, value in changes.items():
        at, width = fields[name]
        block[at : at + width] = value.ljust(width, b"\0")
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return swapped(made, old, bytes(block))


def pax_header() -> Draft:
    """Hide capabilities where a name's pax header should be: the manifest wants a long name."""
    long = "lib/" + "n" * 120
    made = draft({long: File("x")})
    old = f" path={long}\n".encode()
    new = b" SCHILY.xattr.security.capability=" + b"\1" * (len(old) - 35) + b"\n"
    return swapped(made, old, new)


def other_padding() -> Draft:
    """Hide something in the padding behind a content."""
    made = draft(WEB)
    content = made.contents[0]
    return swapped(made, content + bytes(20), content + b"hidden in the padding"[:20])


HEADERS: dict[str, Callable[[], Draft]] = {
    "16-name": lambda: other_header(name=b"../../../etc/cron.d/evil"),
    "16-absolute": lambda: other_header(name=b"/etc/cron.d/evil"),
    "16-size": lambda: other_header(size=b"00000000000\0"),
    "16-size-base-256": lambda: other_header(size=b"\x80" + bytes(10) + b"\x15"),
    "16-mtime": lambda: other_header(mtime=b"00000000000\0"),
    "16-padding": other_padding,
    "7-hard-link": lambda: other_header(kind=b"1", link=b"/etc/shadow"),
    "8-hard-link": lambda: other_header(kind=b"1", link=b"../../../etc/shadow"),
    "9-device": lambda: other_header(kind=b"3", major=b"0000001\0"),
    "10-fifo": lambda: other_header(kind=b"6"),
    "11-setuid": lambda: other_header(mode=b"0004755\0"),
    "11-world-writable": lambda: other_header(mode=b"0000777\0"),
    "12-xattr": pax_header,
    "13-owner": lambda: other_header(uid=b"0001750\0"),
}


@pytest.mark.parametrize("make", HEADERS.values(), ids=list(HEADERS))
def test_lying_tar_header_is_never_read(node: Node, make: Callable[[], Draft]) -> None:
    """Rows 7-13, 16: what is installed follows from the manifest, whatever the headers say."""
    made = make()
    os.umask(0)
    try:
        node.install(node.write(made))
    finally:
        os.umask(0o022)
    expected = {
        file.path: (file.executable, content)
        for file, content in zip(made.manifest.files, made.contents, strict=True)
    }
    for path, (executable, content) in expected.items():
        target = node.layout.apps / "web/1.0" / path
        status = target.lstat()
        assert target.read_bytes() == content
        assert status.st_mode & 0o7777 == (0o755 if executable else 0o644)
        assert (status.st_uid, os.listxattr(target)) == (os.geteuid(), [])
    assert verify.verify(node.context).ok


@pytest.mark.parametrize("make", HEADERS.values(), ids=list(HEADERS))
def test_lying_tar_header_is_neither_signed_nor_verified(
    running: Node, make: Callable[[], Draft], capsys: Capsys
) -> None:
    """Row 16: `appb sign` and `appb verify FILE` accept no header but the manifest's."""
    path = running.write(make())
    for act in (
        lambda path: sign.sign(running.context, str(path), running.key),
        lambda path: verify.verify_file(running.context, str(path)),
    ):
        assert_refused(running, path, "corrupt", "not", capsys=capsys, act=act)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda plain: b"../../evil".ljust(100, b"\0") + plain[100:], id="16-name"),
        pytest.param(lambda plain: plain[:156] + b"3" + plain[157:], id="16-kind"),
        pytest.param(lambda plain: plain[:-1] + b"x", id="16-padding"),
    ],
)
def test_lying_header_of_the_manifest_is_neither_signed_nor_verified(
    running: Node, change: Callable[[bytes], bytes], capsys: Capsys
) -> None:
    """Row 16: the header before the manifest is checked too; tar programs unpack it as well."""
    made = draft(WEB)
    statement, frame = made.papers()
    size = parse_statement(statement).manifest_size
    plain = zstandard.ZstdDecompressor().decompress(frame)
    assert len(plain) > tar.BLOCK + size, "there is padding to change"
    made.raw = plain[tar.BLOCK : tar.BLOCK + size]
    made.manifest_frame = honest(change(plain))
    path = running.write(made)
    for act in (
        lambda path: sign.sign(running.context, str(path), running.key),
        lambda path: verify.verify_file(running.context, str(path)),
    ):
        assert_refused(running, path, "corrupt", "manifest", capsys=capsys, act=act)


def test_refusal_by_a_dead_worker_is_heard_late(
    running: Node, capsys: Capsys, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker's last words count even if it is long dead when they are read."""
    made = draft({f"f{n:03d}": File(os.urandom(300 << 10)) for n in range(60)})
    made.contents[5] = bytes(len(made.contents[5]))
    path = running.write(made.with_frames())
    read_into = BundleStream.read_into

    def read_slowly(self: BundleStream, target: memoryview) -> None:
        read_into(self, target)
        time.sleep(0.1)

    monkeypatch.setattr(BundleStream, "read_into", read_slowly)
    assert_refused(
        running, path, "corrupt", "the content of f005 is not what was signed", capsys=capsys
    )
