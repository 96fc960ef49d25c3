"""Where a bundle comes from, and whose signatures count for it."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TypeVar

from appbundle.errors import (
    CorruptError,
    DowngradeError,
    NotFoundError,
    TrustError,
    UnreachableError,
)
from appbundle.flows import authenticity
from appbundle.flows.authenticity import Policies
from appbundle.flows.context import Context
from appbundle.names import Digest
from appbundle.store.source import Source, open_source
from appbundle.trust.verify import AuthenticStatement

Result = TypeVar("Result")

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


def read(
    context: Context, origin: Origin, use: Callable[[Source, AuthenticStatement], Result]
) -> Result:
    """Read a bundle, in the next way where what one gives is wrong; the last one's error counts.

    Args:
        use: Called with a source that stands behind its authentic statement, once for each way.

    Raises:
        AppbError: As `authenticate`, and as `use`.
    """
    for reading in origin.readings[:-1]:
        try:
            return _read(context, origin, reading, use)
        except DowngradeError:
            # It is what the repository says, and every mirror has the same.
            raise
        except (CorruptError, NotFoundError, TrustError, UnreachableError) as error:
            context.report.note(f"{error.what}; trying another mirror")
    return _read(context, origin, origin.readings[-1], use)


def _read(
    context: Context,
    origin: Origin,
    reading: Reading,
    use: Callable[[Source, AuthenticStatement], Result],
) -> Result:
    with reading() as source:
        context.report.step(f"verifying {source.name}")
        authentic = authenticity.authenticate(
            source, origin.policy, now=context.now, digest=origin.digest
        )
        return use(source, authentic)
