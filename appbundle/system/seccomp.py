"""Seccomp filters: a small assembler of classic BPF, and the call that puts one into force.

An instruction is `struct sock_filter` as a number: code, jump if true, jump if false, operand. All
jumps go forward and are relative, so pieces of a program can be put one behind the other.
See seccomp(2), linux/filter.h.
"""

from __future__ import annotations

import ctypes
import os
import sys

from appbundle.errors import UnsupportedError
from appbundle.system import libc, syscalls

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    Piece = tuple["Instruction", ...]
    """Instructions that end in a verdict, whichever way they go."""

Instruction = tuple[int, int, int, int]

_LOAD, _AND, _JUMP, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x54, 0x05, 0x15, 0x35, 0x45, 0x06
_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16
_KILL_PROCESS, _ERRNO, _ALLOW = 0x80000000, 0x00050000, 0x7FFF0000
_FAR = 255

ALLOW: Piece = ((_RETURN, 0, 0, _ALLOW),)
KILL: Piece = ((_RETURN, 0, 0, _KILL_PROCESS),)

_PR_SET_SECCOMP, _MODE_FILTER = 22, 2
_MAX_INSTRUCTIONS = 4096


def refuse(number: int) -> Piece:
    """Fail with an errno."""
    return ((_RETURN, 0, 0, _ERRNO | number),)


def if_any(argument: int, bits: int, then: Piece, otherwise: Piece = ALLOW) -> Piece:
    """Decide by whether any of these bits is set in an argument's low 32 bits."""
    return (_argument(argument), (_ANY_BIT, 0, len(then), bits), *then, *otherwise)


def if_all(argument: int, bits: int, then: Piece, otherwise: Piece = ALLOW) -> Piece:
    """Decide by whether all of these bits are set in an argument's low 32 bits."""
    test = ((_AND, 0, 0, bits), (_EQUAL, 0, len(then), bits))
    return (_argument(argument), *test, *then, *otherwise)


def if_among(argument: int, values: Iterable[int], then: Piece, otherwise: Piece) -> Piece:
    """Decide by whether an argument's low 32 bits are one of these values.

    For arguments that the kernel takes as int: the high half means nothing to it, either.
    """
    known = sorted(values)
    jumps = [
        (_EQUAL, len(otherwise) + len(known) - at - 1, 0, value) for at, value in enumerate(known)
    ]
    return (_argument(argument), *jumps, *otherwise, *then)


def compile_filter(
    verdicts: Mapping[int, Piece], *, other: Piece, beyond: tuple[int, Piece], audit: int
) -> bytes:
    """Make the program for a set of system calls: a binary search over their numbers.

    Args:
        verdicts: What becomes of each number.
        other: What becomes of numbers that are not in it.
        beyond: From this number on, what becomes of those that are not in it.
        audit: AUDIT_ARCH_…: calls of another architecture end the process.

    Returns:
        As the kernel takes it: 8 bytes an instruction.
    """
    body = _search(_ranges(verdicts, other, beyond))
    foreign: Piece = (
        (_LOAD, 0, 0, _ARCHITECTURE),
        (_EQUAL, 1, 0, audit),
        *KILL,
        (_LOAD, 0, 0, _NUMBER),
    )
    program = (*foreign, *body)
    assert len(program) <= _MAX_INSTRUCTIONS
    order = sys.byteorder
    return b"".join(
        code.to_bytes(2, order) + bytes((yes, no)) + operand.to_bytes(4, order)
        for code, yes, no, operand in program
    )


def architecture() -> tuple[int, int]:
    """This machine's place in the tables of `syscalls`, and its AUDIT_ARCH_….

    Raises:
        UnsupportedError: No filter can be made for it.
    """
    machine = os.uname().machine
    try:
        return syscalls.ARCHITECTURES[machine]
    except KeyError:
        raise UnsupportedError(
            f"there is no filter of system calls for {machine}", kept="nothing was started"
        ) from None


def load(program: bytes) -> None:
    """Put a filter into force for this process and all that it starts.

    Needs `no_new_privs`.

    Raises:
        OSError: EINVAL on a kernel without filters.
    """

    class Program(ctypes.Structure):
        _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))

    value = Program(len(program) // 8, program)
    libc.prctl(_PR_SET_SECCOMP, _MODE_FILTER, ctypes.addressof(value))


def run(program: bytes, *, number: int, arguments: Sequence[int] = (), audit: int) -> int | None:
    """Say what a filter does to a call, as the kernel would.

    Returns:
        The errno that the call fails with, 0 if it goes on, None if it ends the process.
    """
    words = [*arguments, *[0] * (6 - len(arguments))]
    memory = {_NUMBER: number, _ARCHITECTURE: audit} | {
        _ARGUMENTS + 8 * at: word & 0xFFFFFFFF for at, word in enumerate(words)
    }
    at = value = 0
    while True:
        code = int.from_bytes(program[at : at + 2], sys.byteorder)
        yes, no = program[at + 2], program[at + 3]
        operand = int.from_bytes(program[at + 4 : at + 8], sys.byteorder)
        at += 8
        if code == _LOAD:
            value = memory[operand]
        elif code == _AND:
            value &= operand
        elif code == _JUMP:
            at += 8 * operand
        elif code == _RETURN:
            return _meaning(operand)
        else:
            holds = {
                _EQUAL: value == operand,
                _AT_LEAST: value >= operand,
                _ANY_BIT: bool(value & operand),
            }
            at += 8 * (yes if holds[code] else no)


def _meaning(verdict: int) -> int | None:
    if verdict == _KILL_PROCESS:
        return None
    return 0 if verdict == _ALLOW else verdict & 0xFFFF


def _argument(number: int) -> Instruction:
    # The low half comes first on both architectures: they are little-endian.
    return (_LOAD, 0, 0, _ARGUMENTS + 8 * number)


def _ranges(
    verdicts: Mapping[int, Piece], other: Piece, beyond: tuple[int, Piece]
) -> list[tuple[int, Piece]]:
    """Where each verdict begins to hold, in order; neighbours differ."""
    found: list[tuple[int, Piece]] = [(0, other)]

    def add(start: int, piece: Piece) -> None:
        if found[-1][0] == start:
            found.pop()
        if not found or found[-1][1] != piece:
            found.append((start, piece))

    limit, last = beyond
    follows = 0
    for number in sorted(verdicts):
        if follows < limit <= number:
            add(limit, last)
        add(number, verdicts[number])
        follows = number + 1
        add(follows, last if follows >= limit else other)
    if follows < limit:
        add(limit, last)
    return found


def _search(ranges: list[tuple[int, Piece]]) -> list[Instruction]:
    if len(ranges) == 1:
        return list(ranges[0][1])
    middle = len(ranges) // 2
    low, high = _search(ranges[:middle]), _search(ranges[middle:])
    start = ranges[middle][0]
    if len(low) <= _FAR:
        return [(_AT_LEAST, len(low), 0, start), *low, *high]
    # A conditional jump has 8 bits, another one 32.
    return [(_AT_LEAST, 0, 1, start), (_JUMP, 0, 0, len(low)), *low, *high]
