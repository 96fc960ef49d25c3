"""`appb trust`: whose bundles a node accepts."""

from dataclasses import replace

from appbundle.errors import ConflictError, NotFoundError, UsageError
from appbundle.flows.context import Context
from appbundle.names import escape
from appbundle.store import bundle_file, settings
from appbundle.system import files
from appbundle.trust import allowed_signers, keys
from appbundle.trust.allowed_signers import AllowedSigner, UnusableLine


def add(
    context: Context,
    key_file: str,
    *,
    names: tuple[str, ...],
    valid_after: int | None = None,
    valid_before: int | None = None,
) -> AllowedSigner:
    """Trust a key for apps of some names.

    Args:
        key_file: A public-key file.
        names: App names and patterns; `*` for every app.
        valid_after: Seconds since the epoch, or None.
        valid_before: The same.

    Raises:
        ConflictError: The key is trusted for just these already.
    """
    key = keys.parse_public_key(bundle_file.read_small(key_file).decode("utf-8", "replace"))
    text = settings.read_allowed_signers(context.layout)
    entry = allowed_signers.format_entry(
        key, names=names, valid_after=valid_after, valid_before=valid_before
    )
    (made,) = allowed_signers.parse(entry)
    if any(replace(known, line=made.line) == made for known in allowed_signers.parse(text)):
        raise ConflictError(
            f"{key.fingerprint} is trusted for {', '.join(names)} already", hint="appb trust list"
        )
    _write(context, allowed_signers.add(text, entry))
    return made


def lines(context: Context) -> tuple[AllowedSigner | UnusableLine, ...]:
    """The keys that this node trusts, and the lines that it cannot use."""
    return allowed_signers.read_lines(settings.read_allowed_signers(context.layout))


def remove(context: Context, identifier: str) -> str:
    """Trust a key no longer.

    Args:
        identifier: Its fingerprint, or enough of its beginning.

    Returns:
        The fingerprint.
    """
    wanted = identifier.removeprefix("SHA256:")
    text = settings.read_allowed_signers(context.layout)
    known = {
        each.key.fingerprint if isinstance(each, AllowedSigner) else each.fingerprint
        for each in allowed_signers.read_lines(text)
    }
    found = {each for each in known if wanted and each.removeprefix("SHA256:").startswith(wanted)}
    if not found:
        raise NotFoundError(f"no trusted key is {escape(identifier)}", hint="appb trust list")
    if len(found) > 1:
        raise UsageError(
            f"{escape(identifier)} is the beginning of {len(found)} keys", hint="give more of it"
        )
    (fingerprint,) = found
    _write(context, allowed_signers.remove(text, fingerprint))
    return fingerprint


def _write(context: Context, text: str) -> None:
    try:
        settings.write_allowed_signers(context.layout, text)
    except OSError as error:
        raise files.translate_os_error(error, "writing the trusted keys") from error
