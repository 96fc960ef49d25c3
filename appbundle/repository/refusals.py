"""What TUF's client refuses, said in appb's words."""

import re
from collections.abc import Callable
from datetime import datetime

from tuf.api.exceptions import (
    BadVersionNumberError,
    LengthOrHashMismatchError,
    RepositoryError,
)
from tuf.api.exceptions import (
    ExpiredMetadataError as TufExpiredError,
)
from tuf.api.exceptions import (
    UnsignedMetadataError as TufUnsignedError,
)
from tuf.api.metadata import Timestamp

from appbundle.errors import (
    AppbError,
    CorruptError,
    ExpiredMetadataError,
    RollbackError,
    UnsignedMetadataError,
)
from appbundle.names import escape
from appbundle.repository.expiry import remedy

_EXPIRED = re.compile(r"(?:New |Final )?(\S+?)(?:\.json)? is expired")
_KEPT = "nothing was changed; what was trusted before is still known"


def expired(where: str, role: str, when: datetime | None) -> ExpiredMetadataError:
    """Say that a role's metadata are out of date, since when, and what its publisher must run."""
    since = f" since {when:%Y-%m-%d %H:%M} UTC" if when else ""
    return ExpiredMetadataError(
        f"{where}: its {escape(role)} metadata are out of date{since}",
        kept=_KEPT,
        hint=f"is this machine's clock right? Then its publisher has to run: {remedy(role)}",
    )


def translate(
    error: RepositoryError, where: str, expiry: Callable[[str], datetime | None]
) -> AppbError:
    """Turn a refusal into an error.

    Args:
        where: The repository, for messages.
        expiry: Tells until when a role's metadata were good.
    """
    said = escape(str(error))
    match error:
        case TufExpiredError():
            found = _EXPIRED.search(str(error))
            role = found[1] if found else Timestamp.type
            return expired(where, role, expiry(role))
        case BadVersionNumberError():
            return RollbackError(
                f"{where} gives other versions of its metadata than it should: {said}",
                kept=_KEPT,
                hint="an old copy, or somebody who shows one; another mirror may be up to date",
            )
        case TufUnsignedError():
            return UnsignedMetadataError(
                f"{where} gives metadata without the signatures that they need: {said}",
                kept=_KEPT,
                hint="do not trust it; ask its publisher by another way",
            )
        case LengthOrHashMismatchError():
            return CorruptError(f"{where} gives other files than its metadata say: {said}")
        case _:
            return CorruptError(f"{where} gives metadata that make no sense: {said}")
