"""What a person names on the command line: files, or apps of repositories."""

from collections.abc import Sequence

from appbundle.errors import UsageError
from appbundle.flows import authenticity
from appbundle.flows.context import Context
from appbundle.flows.origin import Origin, of_file
from appbundle.names import is_ref, parse_ref
from appbundle.repository import configured
from appbundle.store.source import is_here


def of_words(
    context: Context, words: Sequence[str], *, repository: str | None = None
) -> list[Origin]:
    """Say where what a person names comes from.

    Args:
        words: Each a file, a bundle directory, `-`, or `NAME[@VERSION|@CHANNEL]`.
        repository: Where names are looked up; otherwise where they are bound to.

    Raises:
        UsageError: A word may mean a file or an app.
        AppbError: A name is in no repository, or in several; or one cannot be believed or asked.
    """
    trusted = authenticity.policies(context.layout)
    if all(is_file(context, word) for word in words):
        return [of_file(word, trusted) for word in words]
    # Whoever installs files does not pay for the import of TUF.
    from appbundle.flows import fetch

    with fetch.known(context) as repositories:
        return [
            of_file(word, trusted)
            if is_file(context, word)
            else fetch.find(context, repositories, parse_ref(word), repository=repository)
            for word in words
        ]


def is_path(what: str) -> bool:
    """Whether an argument names a file and not an app: it has a slash, or ends in `.bundle`."""
    return "/" in what or what.endswith(".bundle") or what in ("-", ".", "..")


def is_file(context: Context, word: str) -> bool:
    """Whether an argument of `install` names a file.

    Raises:
        UsageError: It may as well name an app of a repository.
    """
    if is_path(word) or not is_ref(word):
        return True
    if not is_here(word):
        return False
    if configured.names(context.layout):
        raise UsageError(
            f"{word} is a file here, and may be an app of a repository",
            hint=f"the file is ./{word}; the app is installed from another directory",
        )
    return True
