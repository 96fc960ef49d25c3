"""Bundle files in directories, from which versions are chosen as from a repository."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import PurePath

from appbundle.bundle.statement import Statement
from appbundle.errors import CorruptError, TrustError
from appbundle.flows import authenticity
from appbundle.flows.authenticity import Policies
from appbundle.flows.context import Context
from appbundle.flows.origin import Origin, of_file
from appbundle.names import AppName
from appbundle.store.source import bundle_files, open_source


@dataclass(frozen=True, slots=True)
class Loose:
    """A bundle file that this node accepts.

    Args:
        statement: What its signers say.
        origin: To install it from.
    """

    statement: Statement
    origin: Origin


@dataclass(slots=True)
class Shelf:
    """What lies in directories.

    Args:
        bundles: Those that this node accepts.
        refused: Why not the others, by path.
    """

    bundles: list[Loose] = field(default_factory=list)
    refused: dict[str, TrustError | CorruptError] = field(default_factory=dict)

    def of(self, app: AppName) -> list[Loose]:
        """The bundles of an app."""
        return [each for each in self.bundles if each.statement.name == app]

    def why_none(self, app: AppName) -> TrustError | CorruptError | None:
        """Why what is named like a bundle of an app is none, if it is so."""
        found = (
            why for path, why in self.refused.items() if PurePath(path).name.startswith(f"{app}-")
        )
        return next(found, None)


def read(context: Context, directories: Sequence[str]) -> Shelf:
    """Look at each bundle file's statement; what nobody trusted has signed is left aside.

    Raises:
        NotFoundError: A directory cannot be read.
    """
    shelf, trusted = Shelf(), authenticity.policies(context.layout)
    for path in (path for each in directories for path in bundle_files(each)):
        try:
            shelf.bundles.append(look(context, path, trusted))
        except (TrustError, CorruptError) as error:
            shelf.refused[path] = error
            context.report.note(f"{error.what}; it is left aside")
    return shelf


def look(context: Context, path: str, trusted: Policies) -> Loose:
    """Look at the statement of one bundle file.

    Raises:
        AppbError: As `authenticate`, and as `open_source`.
    """
    with open_source(path) as source:
        authentic = authenticity.authenticate(source, trusted, now=context.now)
    return Loose(authentic.statement, of_file(path, trusted))
