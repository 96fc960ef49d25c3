"""Where a tree's content comes from: one module a kind, one line in `KINDS` to make it known."""

from typing import Any

import msgspec

from appbundle.build.sources.base import Source
from appbundle.build.sources.debian import Debian
from appbundle.build.sources.files import Files
from appbundle.build.sources.host import Host
from appbundle.build.sources.python import Python
from appbundle.errors import BuildError

KINDS: dict[str, type[Source]] = {
    "debian": Debian,
    "files": Files,
    "host": Host,
    "python": Python,
}


def decode_source(table: dict[str, Any], *, place: str) -> Source:
    """Make a source from its table in a recipe.

    Args:
        table: As TOML has it; `kind` chooses among `KINDS`.
        place: Where it stands, for errors: ``$.sources[0]``.

    Raises:
        BuildError: An unknown kind, an unknown or missing key, or a value of another type.
    """
    kind = table.get("kind")
    if not isinstance(kind, str) or kind not in KINDS:
        raise BuildError(f"there is no such kind of source - at `{place}.kind`", hint=_known())
    fields = {key: value for key, value in table.items() if key != "kind"}
    try:
        return msgspec.convert(fields, type=KINDS[kind])
    except msgspec.ValidationError as e:
        text = str(e)
        located = text.replace("`$", f"`{place}") if "`$" in text else f"{text} - at `{place}`"
        raise BuildError(located) from e


def _known() -> str:
    return f"the kinds are {', '.join(sorted(KINDS))}"
