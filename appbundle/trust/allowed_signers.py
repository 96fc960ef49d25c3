"""The keys that a node trusts, in OpenSSH's own format. ssh-keygen(1), ALLOWED SIGNERS.

    # one line a key: the apps that it may sign for, options, the key, a comment
    nova-*,!nova-api namespaces="appb-bundle-v1",valid-before="20270101Z" ssh-ed25519 AAAA… vendor

A line that cannot be used (another type of key, an unknown option, a spelling that ssh refuses
too) is left out and listed with the reason. A line can only give trust, never take any away, so
leaving one out is safe.

Times without Z are UTC here unless the caller says otherwise, while ssh-keygen takes them in its
machine's time zone: a node prepared with `--root`, or a user's TZ, must not change what is trusted.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from appbundle.errors import NotFoundError, UsageError
from appbundle.names import escape
from appbundle.trust.keys import (
    KEY_TYPE,
    KeyFileError,
    PublicKey,
    decode_public_base64,
    fingerprint_of,
)
from appbundle.trust.patterns import matches_list
from appbundle.trust.sshsig import NAMESPACE

if TYPE_CHECKING:
    from datetime import tzinfo

# getline(3) knows one line end; str.splitlines() would also split at form feeds and U+2028.
_LINE = re.compile(r"[^\n]*\n|[^\n]+")
_BLANK = " \t\r\n"
_NAMES = re.compile(r'([^ \t\r"]*)"([^"]*)"[ \t\r]*|([^ \t\r"]+)[ \t\r]+')
_OPTION = re.compile(
    r'(cert-authority)|(namespaces|valid-after|valid-before)="((?:\\"|(?!\\")[^"])*)"',
    re.ASCII | re.IGNORECASE,
)
_KEY = re.compile(r"([^ \t]+)[ \t]+([^ \t]+)(?:[ \t]+(.*))?")
_KEY_TYPES = re.compile(r"(?:sk-)?(?:ssh|ecdsa)-[A-Za-z0-9@.-]+", re.ASCII)
_TIME = re.compile(r"([0-9]{8})(?:([0-9]{4})([0-9]{2})?)?(Z|UTC)?", re.ASCII | re.IGNORECASE)
_LAST_SECOND = 253_402_300_799
"""Of the year 9999, in UTC."""
_PATTERN = re.compile(r"!?[a-z0-9*?-]{1,100}", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class AllowedSigner:
    """A line that says: this key may sign for these apps.

    Args:
        line: Its number, from 1.
        names: A list of patterns of apps' names, as `nova-*,!nova-api`.
        key: Whose.
        namespaces: A list of patterns of purposes; None for all.
        valid_after: Seconds since the epoch from which on the key counts, or None.
        valid_before: Seconds since the epoch up to and with which it counts, or None.
    """

    line: int
    names: str
    key: PublicKey
    namespaces: str | None = None
    valid_after: int | None = None
    valid_before: int | None = None

    @property
    def is_for_bundles(self) -> bool:
        """Whether the line lets the key sign bundles at all, and not only, say, commits."""
        return self.namespaces is None or matches_list(NAMESPACE, self.namespaces)

    def is_for(self, name: str) -> bool:
        """Whether the line lets the key sign bundles of this app."""
        return self.is_for_bundles and matches_list(name, self.names)

    def is_valid_at(self, now: int) -> bool:
        """Whether the key counts at this time (seconds since the epoch); both ends belong to it."""
        begun = self.valid_after is None or now >= self.valid_after
        return begun and (self.valid_before is None or now <= self.valid_before)


@dataclass(frozen=True, slots=True, kw_only=True)
class UnusableLine:
    """A line that is left out.

    Args:
        line: Its number, from 1.
        problem: Why, in a few words.
        fingerprint: Of the key that it holds, or empty if none can be made out.
    """

    line: int
    problem: str
    fingerprint: str = ""


class _UnusableError(Exception):
    """Ends the reading of one line."""


@dataclass(frozen=True, slots=True)
class _Options:
    authority: bool = False
    namespaces: str | None = None
    valid_after: int | None = None
    valid_before: int | None = None


def parse(text: str, *, zone: tzinfo | None = None) -> tuple[AllowedSigner, ...]:
    """Read whom a node trusts; lines that cannot be used are left out.

    Args:
        text: The file, undecodable bytes as surrogates.
        zone: The time zone of times without Z; None for UTC.
    """
    return tuple(line for line in read_lines(text, zone=zone) if isinstance(line, AllowedSigner))


def read_lines(
    text: str, *, zone: tzinfo | None = None
) -> tuple[AllowedSigner | UnusableLine, ...]:
    """Read every line that is neither blank nor a comment, as `appb trust list` shows them."""
    return tuple(entry for _, entry in _lines(text, zone) if entry is not None)


def _lines(
    text: str, zone: tzinfo | None = None
) -> Iterator[tuple[str, AllowedSigner | UnusableLine | None]]:
    """Give each line as it stands, newline included, and what it says."""
    for number, line in enumerate(_LINE.findall(text), start=1):
        content = line.strip(_BLANK)
        if not content or content.startswith("#"):
            yield line, None
            continue
        try:
            yield line, _parse_line(content, number, zone)
        except _UnusableError as error:
            fingerprint = _find_fingerprint(content)
            yield line, UnusableLine(line=number, problem=str(error), fingerprint=fingerprint)


def _parse_line(content: str, number: int, zone: tzinfo | None) -> AllowedSigner:
    if "\0" in content:
        raise _UnusableError("it has a NUL character")
    if _KEY_TYPES.match(content):
        raise _UnusableError("it begins with the key; the apps that it may sign for come first")
    match = _NAMES.match(content)
    if match is None:
        raise _UnusableError("it does not have the form: names, options, key")
    names = match[1] + match[2] if match[3] is None else match[3]
    options, rest = _parse_options(content[match.end() :], zone)
    key = _parse_key(rest)
    if options.authority:
        raise _UnusableError("cert-authority: certificates are not used for bundles")
    return AllowedSigner(
        line=number,
        names=names,
        key=key,
        namespaces=options.namespaces,
        valid_after=options.valid_after,
        valid_before=options.valid_before,
    )


def _parse_options(content: str, zone: tzinfo | None) -> tuple[_Options, str]:
    """Read the options column if there is one, and give what follows it."""
    if _KEY_TYPES.match(content):
        return _Options(), content
    given: dict[str, str] = {}
    position = 0
    while True:
        match = _OPTION.match(content, position)
        if match is None:
            raise _UnusableError(f"an unknown or malformed option: {escape(content[position:])}")
        name = (match[1] or match[2]).lower()
        if name in given and name != "cert-authority":
            raise _UnusableError(f"{name} stands twice")
        given[name] = (match[3] or "").replace('\\"', '"')
        position = match.end()
        if content[position : position + 1] != ",":
            break
        position += 1
    if content[position : position + 1] not in (" ", "\t"):
        raise _UnusableError(f"malformed options: {escape(content)}")
    return _make_options(given, zone), content[position:].lstrip(" \t")


def _make_options(given: dict[str, str], zone: tzinfo | None) -> _Options:
    after = _parse_time(given["valid-after"], zone) if "valid-after" in given else None
    before = _parse_time(given["valid-before"], zone) if "valid-before" in given else None
    if after is not None and before is not None and before <= after:
        raise _UnusableError("valid-before is not later than valid-after")
    return _Options("cert-authority" in given, given.get("namespaces"), after, before)


def _parse_time(text: str, zone: tzinfo | None) -> int:
    """Read YYYYMMDD[HHMM[SS]][Z] as seconds since the epoch."""
    from datetime import UTC, datetime

    match = _TIME.fullmatch(text)
    if match is None:
        raise _UnusableError(f"not a time as YYYYMMDD[HHMM[SS]][Z]: {escape(text)}")
    date, clock, seconds, utc = match.groups()
    digits = date + (clock or "0000") + (seconds or "00")
    try:
        when = datetime.strptime(digits, "%Y%m%d%H%M%S").replace(
            tzinfo=UTC if utc or zone is None else zone
        )
        result = int(when.timestamp())
    except (ValueError, OverflowError) as error:
        raise _UnusableError(f"there is no such time: {escape(text)}") from error
    if not 0 < result <= _LAST_SECOND:
        raise _UnusableError(f"not a time between 1970 and 9999: {escape(text)}")
    return result


def _parse_key(content: str) -> PublicKey:
    match = _KEY.fullmatch(content)
    if match is None:
        raise _UnusableError("the key is missing")
    key_type, encoded, comment = match.groups()
    if key_type != KEY_TYPE:
        raise _UnusableError(f"only keys of type {KEY_TYPE} are used, not {escape(key_type)}")
    try:
        return decode_public_base64(encoded, comment=comment or "")
    except KeyFileError as error:
        raise _UnusableError("the key is malformed") from error


def _find_fingerprint(content: str) -> str:
    """Name the key of an unusable line, so that the line can be removed by it."""
    for word in re.split(r"[ \t]+", content):
        if word.startswith("AAAA"):
            try:
                return fingerprint_of(binascii.a2b_base64(word.encode(), strict_mode=True))
            except ValueError:
                return ""
    return ""


def format_entry(
    key: PublicKey,
    *,
    names: Sequence[str],
    valid_after: int | None = None,
    valid_before: int | None = None,
) -> str:
    """Write the line by which a node trusts a key for bundles and nothing else.

    Args:
        key: With the comment to keep.
        names: Patterns of apps' names; at least one that is not negated.
        valid_after: Seconds since the epoch, or None.
        valid_before: Seconds since the epoch, later than `valid_after`, or None.

    Returns:
        One line with its newline.

    Raises:
        UsageError: A pattern or the validity makes no sense.
    """
    for name in names:
        if not _PATTERN.fullmatch(name):
            raise UsageError(
                f"{escape(name)} is not a pattern of apps' names",
                hint="an app's name, * and ? standing for anything, or ! and such a name: nova-*",
            )
    if all(name.startswith("!") for name in names):
        raise UsageError("no app is named that the key may sign for", hint="--for '*' names all")
    if valid_after is not None and valid_before is not None and valid_before <= valid_after:
        raise UsageError("the key's validity ends before it begins")
    options = [f'namespaces="{NAMESPACE}"']
    if valid_after is not None:
        options.append(f'valid-after="{_format_time(valid_after)}"')
    if valid_before is not None:
        options.append(f'valid-before="{_format_time(valid_before)}"')
    shown = PublicKey(key.raw, escape(key.comment).strip())
    return f"{','.join(names)} {','.join(options)} {shown.line}\n"


def _format_time(seconds: int) -> str:
    from datetime import UTC, datetime

    if not 0 < seconds <= _LAST_SECOND:
        raise UsageError(f"{seconds} is not a time between 1970 and 9999")
    return f"{datetime.fromtimestamp(seconds, UTC):%Y%m%d%H%M%S}Z"


def add(text: str, entry: str) -> str:
    """Append a line from `format_entry`; everything before stays byte for byte."""
    separator = "\n" if text and not text.endswith("\n") else ""
    return text + separator + entry


def remove(text: str, fingerprint: str) -> str:
    """Take out every line with a key; all other lines stay byte for byte.

    Args:
        text: The file.
        fingerprint: `SHA256:…`, as `appb trust list` shows it; also of lines that cannot be used.

    Raises:
        NotFoundError: No line has that key.
    """
    lines = list(_lines(text))
    kept = "".join(line for line, entry in lines if _fingerprint(entry) != fingerprint)
    if not fingerprint or kept == text:
        raise NotFoundError(
            f"no trusted key has the fingerprint {escape(fingerprint)}",
            hint="appb trust list shows them",
        )
    return kept


def _fingerprint(entry: AllowedSigner | UnusableLine | None) -> str | None:
    if isinstance(entry, AllowedSigner):
        return entry.key.fingerprint
    return entry.fingerprint if entry is not None else None
