"""Several places that should have the same files: the next is asked where one fails."""

from collections.abc import Iterator, Sequence

from appbundle.errors import AppbError, CorruptError, NotFoundError, UnreachableError
from appbundle.repository.transports.stretches import behind
from appbundle.repository.transports.transport import Stretch, Transport

FAILURES = (CorruptError, NotFoundError, UnreachableError)
"""What may be otherwise elsewhere."""


class Mirrors:
    """A transport made of others; it begins with the one that failed least recently.

    Args:
        transports: At least one, in the order in which they are preferred.
    """

    def __init__(self, transports: Sequence[Transport]) -> None:
        self._order = list(transports)

    @property
    def name(self) -> str:
        """The one that is asked first."""
        return self._order[0].name

    def in_order(self) -> tuple[Transport, ...]:
        """All of them, that which is asked first at first."""
        return tuple(self._order)

    def demote(self, transport: Transport) -> None:
        """Ask one last from now on: it failed, or what it gave was not authentic."""
        self._order.remove(transport)
        self._order.append(transport)

    def prefer(self, name: str) -> None:
        """Ask the one of this name first, if there is one."""
        self._order.sort(key=lambda each: each.name != name)

    def read(self, path: str, *, limit: int) -> bytes:
        """Read a small file whole from the first that has it."""
        first: AppbError | None = None
        for each in self.in_order():
            try:
                return each.read(path, limit=limit)
            except FAILURES as error:
                first = first or error
                self._judge(each, error)
        assert first is not None
        raise first

    def read_stretches(
        self, path: str, *, file_size: int, stretches: Sequence[Stretch]
    ) -> Iterator[bytes]:
        """Read parts of a file; where one breaks off, the next goes on."""
        first: AppbError | None = None
        taken = 0
        for each in self.in_order():
            rest = behind(stretches, taken)
            try:
                for piece in each.read_stretches(path, file_size=file_size, stretches=rest):
                    taken += len(piece)
                    yield piece
                return
            except FAILURES as error:
                first = first or error
                self._judge(each, error)
        assert first is not None
        raise first

    def _judge(self, transport: Transport, error: AppbError) -> None:
        """A mirror that lacks one file may just not have it yet."""
        if not isinstance(error, NotFoundError):
            self.demote(transport)
