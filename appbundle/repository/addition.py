"""Coming to trust a repository: only by the hash of its first root, which a person has typed."""

import hashlib
import re
from pathlib import PurePosixPath
from urllib.parse import unquote, urlsplit

from appbundle.errors import TrustError, UsageError
from appbundle.layout import Layout
from appbundle.names import Digest, escape, parse_digest
from appbundle.repository.configured import Repository, parse_name
from appbundle.repository.find import mirrors_of, refresh
from appbundle.repository.trusted import METADATA, trusted

FIRST_ROOT = f"{METADATA}/1.root.json"

_HASH = "#sha256="
_MAX_ROOT_BYTES = 512_000
_HINT = "its publisher says the whole line: appb repo add URL#sha256=HEX"


class WrongRootError(TrustError):
    """A repository begins with another root than the one whose hash was typed."""

    kind = "wrong-root"


def parse_address(text: str) -> tuple[str, Digest]:
    """Take `URL#sha256=HEX` apart.

    Raises:
        UsageError: It is something else; an address alone is not trusted.
    """
    url, mark, digest = text.rpartition(_HASH)
    if not mark:
        raise UsageError(f"{escape(text)} does not say what to trust there", hint=_HINT)
    return url.rstrip("/"), parse_digest(digest)


def name_of(url: str) -> str:
    """Make a repository's name of its address: its host, or the last part of its path.

    Raises:
        UsageError: Nothing of it can be a name.
    """
    parts = urlsplit(url)
    word = parts.hostname or PurePosixPath(unquote(parts.path)).name
    name = re.sub(r"[^a-z0-9.]+", "-", word.lower()).strip(".-")
    try:
        return parse_name(name)
    except UsageError as error:
        raise UsageError(f"{escape(url)} makes no name", hint="give one: --name NAME") from error


def fetch_first_root(layout: Layout, repository: Repository, *, now: int) -> bytes:
    """Fetch a repository's first root, and see that it leads to metadata which can be believed.

    Nothing is stored.

    Args:
        layout: The node.
        repository: Which is not yet the node's.
        now: Seconds since the epoch.

    Raises:
        WrongRootError: The root is another than was typed.
        AppbError: As `Trusted.refresh`.
    """
    mirrors = mirrors_of(repository)
    raw = mirrors.read(FIRST_ROOT, limit=_MAX_ROOT_BYTES)
    found = hashlib.sha256(raw).hexdigest()
    if found != repository.root_sha256:
        raise WrongRootError(
            f"{mirrors.name} begins with the root {found}, which is not what you typed",
            hint="compare with its publisher by another way than this server",
        )
    with trusted(layout.repository(repository.name) / METADATA, raw, now=now) as metadata:
        refresh(metadata, mirrors)
    return raw
