"""A repository's bundle as a source of frames: only what is asked for is fetched."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, Annotated

import msgspec

from appbundle.bundle.container import (
    END_FRAME,
    PREAMBLE,
    compression_level,
    encode_manifest_frame,
    read_head,
)
from appbundle.bundle.manifest import Manifest
from appbundle.bundle.statement import AREA_STEP, Signed, Statement, parse_statement
from appbundle.errors import AppbError, CorruptError
from appbundle.repository.manifest_patch import apply_patch
from appbundle.repository.transports.transport import Stretch, Transport

if TYPE_CHECKING:
    # Installing a file must not pay for the import of TUF.
    from appbundle.repository.release import Release

_GAP_BYTES = 32 << 10
"""Unneeded bytes between two needed frames that cost less than asking twice."""


Recall = Callable[[str], bytes | None]
"""Gives the JSON of a manifest that the node has, by the first 16 digits of its digest."""


class RemoteBundle:
    """Reads a bundle from a repository; nothing of what it gives is authenticated here.

    It keeps the contract of `store.source.FrameSource`, and counts what it fetches.

    Args:
        transport: Of one mirror.
        release: Which bundle, as authenticated metadata describe it.
        title: For messages; escaped.
        recall: For the manifest's patch.
        chosen: Called once with the bytes that the chosen frames have, and with the bytes of the
            file that are not fetched.
    """

    def __init__(
        self,
        transport: Transport,
        release: Release,
        *,
        title: str,
        recall: Recall = lambda _: None,
        chosen: Callable[[int, int], None] = lambda _, __: None,
    ) -> None:
        self.name = title
        self.fetched_bytes = 0
        self._transport = transport
        self._release = release
        self._recall = recall
        self._chosen = chosen
        self._head_size = 0
        self._payload_start = 0
        self._signed: Signed | None = None
        self._pieces: Iterator[bytes] = iter(())
        self._piece = memoryview(b"")

    @property
    def whole_bytes(self) -> int:
        """What fetching the whole file would take."""
        return self._release.size

    def signed(self) -> Signed:
        """Read statement and signatures: nearly always with one request."""
        whole = min(len(PREAMBLE) + AREA_STEP, self._release.size)
        at, known = 0, self._fetch(Stretch(0, whole))

        def read(size: int) -> bytes:
            nonlocal at, known
            if at + size > len(known) and len(known) < self._release.size:
                more = min(at + size, self._release.size) - len(known)
                known += self._fetch(Stretch(len(known), more))
            piece = known[at : at + size]
            at += len(piece)
            return piece

        head = read_head(read)
        self._head_size, self._signed = head.size, head.signed
        return head.signed

    def manifest_frame(self, size: int) -> bytes:
        """Make the manifest frame from its patch, or fetch it, whichever is fewer bytes."""
        assert self._signed is not None
        self._payload_start = self._head_size + size
        patch = self._release.patch
        if patch is not None and patch.size < size:
            previous = self._recall(patch.previous)
            if previous is not None:
                frame = self._patched(previous, parse_statement(self._signed.statement))
                if frame is not None:
                    return frame
        return self._fetch(Stretch(self._head_size, size))

    def _patched(self, previous: bytes, statement: Statement) -> bytes | None:
        """Make the exact frame that was signed; None if that cannot be done here."""
        patch = self._release.patch
        assert patch is not None
        try:
            raw = self._transport.read(self._release.patch_path, limit=patch.size)
            self.fetched_bytes += len(raw)
            if hashlib.sha256(raw).hexdigest() != patch.sha256:
                return None
            manifest = apply_patch(raw, previous, size=statement.manifest_size)
            if hashlib.sha256(manifest).hexdigest() != statement.manifest_sha256:
                return None
            made = msgspec.json.decode(manifest, type=_Made)
            level = compression_level(made.compression)
        except (AppbError, msgspec.MsgspecError):
            return None
        frame = encode_manifest_frame(manifest, mtime=made.created, level=level)
        # Another libzstd compresses otherwise.
        digest = hashlib.sha256(frame).hexdigest()
        return frame if digest == statement.manifest_frame_sha256 else None

    def choose_frames(self, manifest: Manifest, needed: Sequence[int]) -> Sequence[int]:
        """Ask for the needed frames, and for small ones between them."""
        end = self._payload_start + sum(frame.compressed_size for frame in manifest.frames)
        if end + len(END_FRAME) != self._release.size:
            raise CorruptError(f"{self.name} is not as long as its manifest says")
        chosen, stretches = plan(manifest, needed, start=self._payload_start)
        size = sum(each.size for each in stretches)
        self._chosen(size, self._release.size - size - self.fetched_bytes)
        if stretches:
            self._pieces = self._read(stretches)
        return chosen

    def read_into(self, target: memoryview) -> None:
        """Fill memory with the chosen frames' next bytes.

        Raises:
            CorruptError: The server gave too few.
        """
        while target:
            if not self._piece:
                self._piece = memoryview(self._next())
            count = min(len(target), len(self._piece))
            target[:count] = self._piece[:count]
            target, self._piece = target[count:], self._piece[count:]
            self.fetched_bytes += count

    def finish(self) -> None:
        """Check that the server gave no more than was asked for.

        Raises:
            CorruptError: It did.
        """
        if self._piece or any(self._pieces):
            raise CorruptError(f"{self._transport.name} gave more than was asked for")

    def cost(self, manifest: Manifest, needed: Sequence[int]) -> int:
        """Bytes that `choose_frames` would ask for."""
        return sum(s.size for s in plan(manifest, needed, start=self._payload_start)[1])

    def _next(self) -> bytes:
        piece = next(self._pieces, None)
        if piece is None:
            raise CorruptError(f"{self._transport.name} gave less than was asked for")
        return piece

    def _fetch(self, stretch: Stretch) -> bytes:
        content = b"".join(self._read([stretch]))
        self.fetched_bytes += len(content)
        if len(content) != stretch.size:
            raise CorruptError(f"{self._transport.name} gave another length than was asked for")
        return content

    def _read(self, stretches: Sequence[Stretch]) -> Iterator[bytes]:
        return self._transport.read_stretches(
            self._release.path, file_size=self._release.size, stretches=stretches
        )


class _Made(msgspec.Struct):
    """What a manifest says about how its own frame was made."""

    compression: str
    created: Annotated[int, msgspec.Meta(ge=0, lt=8**11)] = 0


def plan(
    manifest: Manifest, needed: Sequence[int], *, start: int
) -> tuple[list[int], list[Stretch]]:
    """Choose frames, and join those that are adjacent or nearly so.

    Args:
        needed: Numbers of frames, ascending.
        start: Where the payload begins in the file.

    Returns:
        The frames, and the stretches of the file that they make up.
    """
    offsets = list(accumulate((f.compressed_size for f in manifest.frames), initial=start))
    spans: list[range] = []
    for index in needed:
        if spans and offsets[index] - offsets[spans[-1].stop] <= _GAP_BYTES:
            spans[-1] = range(spans[-1].start, index + 1)
        else:
            spans.append(range(index, index + 1))
    stretches = [Stretch(offsets[s.start], offsets[s.stop] - offsets[s.start]) for s in spans]
    return [index for span in spans for index in span], stretches
