"""What all SSH formats are made of: numbers and length-prefixed strings. RFC 4251, section 5."""

import struct

_UINT32 = struct.Struct(">I")


def uint32(number: int) -> bytes:
    """Encode a number in four bytes, most significant first."""
    return _UINT32.pack(number)


def string(content: bytes) -> bytes:
    """Encode bytes with their length in front."""
    return _UINT32.pack(len(content)) + content


class Reader:
    """Take fields off the front of a byte string.

    Every method raises ValueError where the bytes end before the field does.
    """

    def __init__(self, content: bytes) -> None:
        self._content = content
        self._position = 0

    def take(self, size: int) -> bytes:
        """Give the next `size` bytes."""
        end = self._position + size
        if end > len(self._content):
            raise ValueError("ends early")
        part = self._content[self._position : end]
        self._position = end
        return part

    def uint32(self) -> int:
        """Give the next number."""
        (number,) = _UINT32.unpack(self.take(4))
        return int(number)

    def string(self) -> bytes:
        """Give the next string."""
        return self.take(self.uint32())
