"""From an app's name to what the one repository that may say so says of it."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from appbundle.errors import AppbError, ConflictError, NotFoundError, TrustError, UnreachableError
from appbundle.layout import Layout
from appbundle.names import AppName
from appbundle.repository import bindings, clock, configured, delegations
from appbundle.repository.configured import Repository
from appbundle.repository.keys import policy_of
from appbundle.repository.open import open_transport
from appbundle.repository.release import Release, read_releases
from appbundle.repository.transports import health
from appbundle.repository.transports.mirrors import FAILURES, Mirrors
from appbundle.repository.trusted import METADATA, Role, Trusted, trusted
from appbundle.system import files
from appbundle.system.lock import lock
from appbundle.trust.keys import PublicKey
from appbundle.trust.verify import TrustPolicy


@dataclass(frozen=True, slots=True, kw_only=True)
class Described:
    """An app as its repository describes it.

    Args:
        app: Its name.
        repository: The name of the repository.
        keys: Whose signatures count for its bundles.
        threshold: How many of these must have signed.
        releases: The newest first.
        mirrors: To read the releases' files with; what they give is not authenticated.
    """

    app: AppName
    repository: str
    keys: tuple[PublicKey, ...]
    threshold: int
    releases: tuple[Release, ...]
    mirrors: Mirrors

    @property
    def policy(self) -> TrustPolicy:
        """What counts as a bundle of the app."""
        return policy_of(self.app, self.keys, self.threshold)


class Repositories:
    """The node's repositories, each refreshed when it is first needed, and once.

    Args:
        layout: The node.
        now: Seconds since the epoch.
        note: Told what is worth knowing and no error.
        lock_timeout_s: How long to wait for another appb that refreshes the same repository.
    """

    def __init__(
        self,
        layout: Layout,
        *,
        now: int,
        note: Callable[[str], None],
        lock_timeout_s: float,
        stack: ExitStack,
    ) -> None:
        self._layout = layout
        self._now = now
        self._note = note
        self._lock_timeout_s = lock_timeout_s
        self._stack = stack
        self._opened: dict[str, tuple[Trusted, Mirrors]] = {}

    def find(self, app: AppName) -> Described:
        """Give what the repository says of an app that its name is bound to, or the only one.

        Raises:
            NotFoundError: None has it.
            ConflictError: Several have it, and the name is bound to none.
            TrustError, CorruptError, UnreachableError: A repository cannot be believed, or asked;
                also one that might have an app whose name is bound to none.
        """
        bound = bindings.bound_to(self._layout, app)
        names = [bound] if bound is not None else configured.names(self._layout)
        found = [each for name in names if (each := self.find_in(name, app)) is not None]
        if not found:
            raise NotFoundError(_none_has(app, names), hint="appb search WORD")
        if len(found) > 1:
            raise ConflictError(
                f"{app} is in {' and in '.join(each.repository for each in found)}",
                hint=f"say which one: appb install --from {found[0].repository} {app}",
            )
        return found[0]

    def find_in(self, name: str, app: AppName) -> Described | None:
        """Give what one repository says of an app, or None if it does not have it."""
        # What the online key vouches for is no app.
        delegations.check_app(app)
        role, mirrors = self.role(name, app)
        if role is None:
            return None
        releases = read_releases(app, role.signed).values()
        return Described(
            app=app,
            repository=name,
            keys=role.keys,
            threshold=role.threshold,
            releases=tuple(sorted(releases, key=lambda each: each.release, reverse=True)),
            mirrors=mirrors,
        )

    def role(self, name: str, role: str) -> tuple[Role | None, Mirrors]:
        """Give what one repository's role vouches for, or None if it has no such role."""
        metadata, mirrors = self._open(name)
        return metadata.role(role, mirrors), mirrors

    def _open(self, name: str) -> tuple[Trusted, Mirrors]:
        if name not in self._opened:
            repository = configured.read(self._layout, name)
            mirrors = mirrors_of(repository)
            self._opened[name] = self._refresh(repository, mirrors), mirrors
        return self._opened[name]

    def _refresh(self, repository: Repository, mirrors: Mirrors) -> Trusted:
        place = self._layout.repository(repository.name)
        pinned = configured.read_pinned(self._layout, repository)
        with self._alone(place, repository.name):
            now = clock.latest(place, self._now, self._note)
            metadata = self._stack.enter_context(trusted(place / METADATA, pinned, now=now))
            health.prefer(place, mirrors, now=self._now)
            refresh(metadata, mirrors)
            health.remember(place, mirrors, now=self._now)
            clock.remember(place, now)
        return metadata

    def _alone(self, place: Path, name: str) -> AbstractContextManager[None]:
        """Keep others from refreshing meanwhile; who may not write there disturbs nobody."""
        if not files.is_writable(place):
            return nullcontext()
        purpose = f"refresh of {name}"
        return lock(place / "lock", purpose=purpose, timeout_s=self._lock_timeout_s)


@contextmanager
def repositories(
    layout: Layout,
    *,
    now: int,
    note: Callable[[str], None] = lambda _: None,
    lock_timeout_s: float = 60,
) -> Iterator[Repositories]:
    """Give the node's repositories for as long as they are needed; nothing is asked yet.

    Args:
        layout: The node.
        now: Seconds since the epoch.
        note: Told what is worth knowing and no error.
        lock_timeout_s: How long to wait for another appb that refreshes the same repository.
    """
    with ExitStack() as stack:
        yield Repositories(layout, now=now, note=note, lock_timeout_s=lock_timeout_s, stack=stack)


def mirrors_of(repository: Repository) -> Mirrors:
    """The places where a repository's files are."""
    hosts = repository.redirect_hosts
    return Mirrors([open_transport(each, redirect_hosts=hosts) for each in repository.urls])


def refresh(metadata: Trusted, mirrors: Mirrors) -> None:
    """Refresh from the first mirror that has metadata which can be believed.

    Raises:
        As `Trusted.refresh`: what the first one that gave anything gave.
    """
    errors: list[AppbError] = []
    for each in mirrors.in_order():
        try:
            return metadata.refresh(each)
        except (TrustError, *FAILURES) as error:
            errors.append(error)
            mirrors.demote(each)
    raise min(errors, key=lambda error: isinstance(error, UnreachableError))


def _none_has(app: AppName, names: list[str]) -> str:
    if not names:
        return f"{app} is in no repository: this node has none"
    return f"{app} is not in {' or in '.join(names)}"
