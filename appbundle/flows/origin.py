"""Where a bundle comes from, and whose signatures count for it."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

from appbundle.errors import (
    CorruptError,
    DowngradeError,
    NotFoundError,
    TrustError,
    UnreachableError,
)
from appbundle.flows.authenticity import Policies
from appbundle.flows.context import Context
from appbundle.names import Digest
from appbundle.store.source import Source, open_source

Reading = Callable[[], AbstractContextManager[Source]]
"""Opens a bundle; what may go wrong elsewhere than on this node goes wrong later, in reading it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where one bundle comes from.

    Args:
        policy: Whose signatures count.
        readings: Ways to read it, each worth trying if the one before gave something wrong.
        digest: Of the only manifest that it may have, if somebody trusted said so.
        repository: Which the app belongs to once this is installed; empty for none.
    """

    policy: Policies
    readings: tuple[Reading, ...]
    digest: Digest | None = None
    repository: str = ""


def of_file(path: str, policy: Policies) -> Origin:
    """A file, a directory, or `-`."""
    return Origin(policy=policy, readings=(lambda: open_source(path),))


def attempts(context: Context, origin: Origin) -> Iterator[AbstractContextManager[Source]]:
    """Give the ways to read a bundle until one was good: `for each in attempts(…): with each as …`.

    An attempt that fails by what it was given is followed by the next; the last one's error counts.
    """
    is_good = False

    @contextmanager
    def attempt(reading: Reading, *, is_last: bool) -> Iterator[Source]:
        nonlocal is_good
        try:
            with reading() as source:
                yield source
            is_good = True
        except DowngradeError:
            # It is what the repository says, and every mirror has the same.
            raise
        except (CorruptError, NotFoundError, TrustError, UnreachableError) as error:
            if is_last:
                raise
            context.report.note(f"{error.what}; trying another mirror")

    for number, reading in enumerate(origin.readings, 1):
        yield attempt(reading, is_last=number == len(origin.readings))
        if is_good:
            return
