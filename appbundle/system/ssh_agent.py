"""A client of ssh-agent: which keys it holds, and signing. Source: RFC 9987."""

import os
import socket
import struct
from dataclasses import dataclass

from appbundle.errors import NotFoundError, UnsupportedError
from appbundle.names import escape

_REQUEST_IDENTITIES = 11
_IDENTITIES_ANSWER = 12
_SIGN_REQUEST = 13
_SIGN_RESPONSE = 14
_LENGTH = struct.Struct(">I")
_MAX_ANSWER = 1 << 20
_LIST_TIMEOUT_S = 10.0
_SIGN_TIMEOUT_S = 120.0
"""A token may wait for a finger."""


@dataclass(frozen=True, slots=True)
class Agent:
    """A connection to the agent that SSH_AUTH_SOCK names; one request at a time."""

    path: str

    @classmethod
    def from_environment(cls) -> "Agent | None":
        """The running agent, or None if there is none."""
        path = os.environ.get("SSH_AUTH_SOCK", "")
        return cls(path) if path else None

    def identities(self) -> list[bytes]:
        """The public keys that the agent holds, as ssh's wire format.

        Raises:
            NotFoundError: Nobody listens there, or the agent refuses (it may be locked).
            UnsupportedError: It does not answer, or with nonsense.
        """
        request = bytes((_REQUEST_IDENTITIES,))
        answer = self._ask(request, _IDENTITIES_ANSWER, timeout_s=_LIST_TIMEOUT_S)
        count, position = _number(answer, 0)
        found = []
        for _ in range(count):
            blob, position = _string(answer, position)
            _, position = _string(answer, position)
            found.append(blob)
        return found

    def sign(self, key: bytes, data: bytes) -> bytes:
        """Let the agent sign; gives ssh's signature: a type and a blob, as strings.

        Args:
            key: A public key as ssh's wire format.
            data: What to sign.

        Raises:
            NotFoundError: Nobody listens there, or the agent refuses: it has no such key, or the
                person said no.
            UnsupportedError: It does not answer, or with nonsense.
        """
        request = bytes((_SIGN_REQUEST,)) + _packed(key) + _packed(data) + _LENGTH.pack(0)
        answer = self._ask(request, _SIGN_RESPONSE, timeout_s=_SIGN_TIMEOUT_S)
        signature, _ = _string(answer, 0)
        return signature

    def _ask(self, request: bytes, expected: int, *, timeout_s: float) -> bytes:
        try:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(timeout_s)
                connection.connect(self.path)
                connection.sendall(_packed(request))
                (length,) = _LENGTH.unpack(_exactly(connection, 4))
                if length > _MAX_ANSWER:
                    raise UnsupportedError("ssh-agent's answer is too long")
                answer = _exactly(connection, length)
        # A socket that an ended session left behind is no agent, so callers may go on without.
        except (FileNotFoundError, ConnectionRefusedError, NotADirectoryError) as error:
            raise NotFoundError(
                f"no ssh-agent listens at {escape(self.path)}", hint="ssh-agent starts one"
            ) from error
        except OSError as error:
            raise UnsupportedError(
                f"ssh-agent does not answer: {error.strerror or error}", hint="ssh-add -l"
            ) from error
        if not answer or answer[0] != expected:
            raise NotFoundError(
                "ssh-agent refused", hint="ssh-add -l shows its keys; ssh-add FILE adds one"
            )
        return answer[1:]


def _packed(content: bytes) -> bytes:
    return _LENGTH.pack(len(content)) + content


def _number(answer: bytes, position: int) -> tuple[int, int]:
    try:
        (number,) = _LENGTH.unpack_from(answer, position)
    except struct.error as error:
        raise UnsupportedError("ssh-agent's answer is cut short") from error
    return number, position + 4


def _string(answer: bytes, position: int) -> tuple[bytes, int]:
    length, start = _number(answer, position)
    if start + length > len(answer):
        raise UnsupportedError("ssh-agent's answer is cut short")
    return answer[start : start + length], start + length


def _exactly(connection: socket.socket, size: int) -> bytes:
    content = b""
    while len(content) < size:
        piece = connection.recv(size - len(content))
        if not piece:
            raise ConnectionResetError("it closed the connection")
        content += piece
    return content
