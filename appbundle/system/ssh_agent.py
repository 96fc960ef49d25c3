"""A client of ssh-agent: which keys it holds, and signing. Source: OpenSSH's PROTOCOL.agent."""

import os
import socket
import struct
from dataclasses import dataclass

from appbundle.errors import NotFoundError, UnsupportedError

_REQUEST_IDENTITIES = 11
_IDENTITIES_ANSWER = 12
_SIGN_REQUEST = 13
_SIGN_RESPONSE = 14
_LENGTH = struct.Struct(">I")
_MAX_ANSWER = 1 << 20
_TIMEOUT_S = 120.0
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
        """The public keys that the agent holds, as ssh's wire format."""
        answer = self._ask(bytes((_REQUEST_IDENTITIES,)), _IDENTITIES_ANSWER)
        (count,) = _LENGTH.unpack_from(answer)
        position, found = 4, []
        for _ in range(count):
            blob, position = _string(answer, position)
            _, position = _string(answer, position)
            found.append(blob)
        return found

    def sign(self, key: bytes, data: bytes) -> bytes:
        """Let the agent sign; gives ssh's signature: a type and a blob, as strings.

        Args:
            key: A public key as ssh's wire format.
        """
        request = bytes((_SIGN_REQUEST,)) + _packed(key) + _packed(data) + _LENGTH.pack(0)
        answer = self._ask(request, _SIGN_RESPONSE)
        signature, _ = _string(answer, 0)
        return signature

    def _ask(self, request: bytes, expected: int) -> bytes:
        try:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(_TIMEOUT_S)
                connection.connect(self.path)
                connection.sendall(_packed(request))
                (length,) = _LENGTH.unpack(_exactly(connection, 4))
                answer = _exactly(connection, min(length, _MAX_ANSWER))
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


def _string(answer: bytes, position: int) -> tuple[bytes, int]:
    try:
        (length,) = _LENGTH.unpack_from(answer, position)
    except struct.error as error:
        raise UnsupportedError("ssh-agent's answer is cut short") from error
    return answer[position + 4 : position + 4 + length], position + 4 + length


def _exactly(connection: socket.socket, size: int) -> bytes:
    content = b""
    while len(content) < size:
        piece = connection.recv(size - len(content))
        if not piece:
            raise ConnectionResetError("it closed the connection")
        content += piece
    return content
