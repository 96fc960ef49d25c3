"""`appb repo`, `appb search`: which repositories a node uses, and what is in them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from appbundle.errors import AppbError, ConflictError
from appbundle.flows import fetch
from appbundle.flows.context import Context
from appbundle.names import AppName, escape
from appbundle.repository import addition, bindings, catalog, clock, configured
from appbundle.repository.catalog import Entry
from appbundle.repository.configured import Repository
from appbundle.system import files


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """A repository that the node uses.

    Args:
        repository: What the administrator has decided.
        refreshed_at: Seconds since the epoch when it was last found current; None for never.
        apps: Those whose names are bound to it.
    """

    repository: Repository
    refreshed_at: int | None
    apps: tuple[AppName, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Hit:
    """An app in a repository's catalog.

    Args:
        app: Its name.
        repository: The repository's.
        entry: What the catalog says; for information only.
    """

    app: str
    repository: str
    entry: Entry


def add(
    context: Context, address: str, *, mirrors: Sequence[str] = (), name: str | None = None
) -> Repository:
    """Use a repository from now on.

    Args:
        address: `URL#sha256=HEX`, with the hash of the first root.
        mirrors: Further addresses of the same files.
        name: On this node; None for one made of the address.

    Raises:
        UsageError: The address has no hash, or is none.
        ConflictError: There is one of this name.
        WrongRootError: It begins with another root; as with any other error, nothing is stored.
    """
    url, digest = addition.parse_address(address)
    name = configured.parse_name(name) if name is not None else addition.name_of(url)
    if name in configured.names(context.layout):
        raise ConflictError(
            f"this node has a repository {name}",
            hint=f"give another --name, or first: appb repo remove {name}",
        )
    made = Repository(name=name, urls=(url, *mirrors), root_sha256=digest)
    context.report.step(f"asking {escape(url)}")
    pinned = addition.fetch_first_root(context.layout, made, now=context.now)
    try:
        configured.add(context.layout, made, pinned)
        clock.remember(context.layout.repository(name), context.now)
    except OSError as error:
        raise files.translate_os_error(error, f"adding {name}") from error
    if bound := bindings.bound(context.layout, name):
        context.report.note(f"bound to {name} since before: {', '.join(bound)}")
    return made


def known(context: Context) -> Iterator[Known]:
    """Give the node's repositories, by name; asks none of them."""
    for each in configured.read_all(context.layout):
        place = context.layout.repository(each.name)
        yield Known(
            repository=each,
            refreshed_at=clock.seen(place) or None,
            apps=tuple(bindings.bound(context.layout, each.name)),
        )


def remove(context: Context, name: str) -> tuple[AppName, ...]:
    """Use a repository no longer; what was installed from it stays.

    Returns:
        The apps whose names stay bound to it, so that they come from nowhere else unasked.
    """
    bound = tuple(bindings.bound(context.layout, name))
    try:
        configured.remove(context.layout, name)
    except OSError as error:
        raise files.translate_os_error(error, f"removing {name}") from error
    return bound


def search(context: Context, word: str) -> list[Hit]:
    """Find apps by a part of their name or summary.

    Args:
        word: Upper and lower case are the same; empty for all.

    Returns:
        Those of all repositories that could be asked, by name.

    Raises:
        AppbError: None could be asked; what was wrong with the first one.
    """
    hits: list[Hit] = []
    errors: list[AppbError] = []
    names = configured.names(context.layout)
    with fetch.known(context) as asked:
        for name in names:
            try:
                role, mirrors = asked.role(name, catalog.ROLE)
                apps = catalog.fetch(role.signed, mirrors).apps if role else {}
            except AppbError as error:
                errors.append(error)
                context.report.note(f"{error.what}; {name} is left out")
                continue
            hits += (Hit(app=app, repository=name, entry=entry) for app, entry in apps.items())
    if errors and len(errors) == len(names):
        raise errors[0]
    found = (each for each in hits if word.lower() in f"{each.app}\n{each.entry.summary}".lower())
    return sorted(found, key=lambda each: (each.app, each.repository))
