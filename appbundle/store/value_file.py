"""Values of settings in files: a secret never stands on a command line or in a node file."""

from pathlib import Path

from appbundle.errors import NotFoundError, UsageError
from appbundle.names import escape

MAX_INPUT = 1 << 16


def read(path: Path) -> str:
    """Read a value from a file, without the newline at its end.

    Raises:
        NotFoundError: It cannot be read.
        UsageError: It is not UTF-8.
    """
    try:
        with path.open("rb") as file:
            return decode(file.read(MAX_INPUT))
    except OSError as error:
        raise NotFoundError(f"{escape(str(path))} cannot be read: {error.strerror}") from error


def decode(raw: bytes) -> str:
    """The same of bytes that were read.

    Raises:
        UsageError: They are not UTF-8.
    """
    try:
        return raw.decode().removesuffix("\n")
    except UnicodeDecodeError as error:
        raise UsageError("the value is not UTF-8") from error
