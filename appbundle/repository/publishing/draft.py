"""What a repository is about to say: next versions of roles, which people sign one by one.

A proposal that lacks signatures is kept in the folder for the next signer, and counts for nothing
there until a key that may sign it has.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from tuf.api.metadata import Delegations, Metadata, Root, Targets

from appbundle.errors import NotFoundError
from appbundle.names import AppName, Version
from appbundle.repository import catalog, delegations
from appbundle.repository.expiry import expires
from appbundle.repository.keys import count_signatures, is_signed, keys_of, sign, threshold_of
from appbundle.repository.publishing import folder, online
from appbundle.repository.publishing.folder import Folder
from appbundle.repository.publishing.publication import SUMMARY, Publication, Role
from appbundle.repository.publishing.roles import Roles, parse, read_roles
from appbundle.repository.release import Release, encode_releases, read_releases
from appbundle.system.lock import lock
from appbundle.trust.keys import PublicKey
from appbundle.trust.sshsig import Signer

TOP = ("root", "targets")
"""Proposals that are not of an app."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of the proposals.

    Args:
        published: Roles whose new version readers see.
        waiting: Roles whose new version does not have its signatures: those that count, and how
            many are needed.
        offline: Whether all signatures are there, but the online key is not.
    """

    published: tuple[str, ...] = ()
    waiting: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    offline: bool = False


@dataclass(slots=True, kw_only=True)
class Draft:
    """The roles as they are, and proposals of their next versions.

    Args:
        folder: Of the repository.
        roles: What readers see; None if that is nothing yet.
        online: The online key, that of a proposed root included; none if they are elsewhere.
        now: Seconds since the epoch.
        proposed: Next versions by role.
    """

    folder: Folder
    roles: Roles | None
    online: Sequence[Signer]
    now: int
    proposed: dict[str, Role] = field(default_factory=dict)

    @property
    def root(self) -> Root:
        """The root that is proposed, or else the current one."""
        found = self._latest("root")
        assert found
        assert isinstance(found.signed, Root)
        return found.signed

    @property
    def targets(self) -> Targets:
        """The same for targets."""
        found = self.delegated("targets")
        assert found
        return found

    def delegated(self, name: str) -> Targets | None:
        """The same for an app's role; None if nothing was published or proposed of it."""
        found = self._latest(name)
        return found.signed if found and isinstance(found.signed, Targets) else None

    def releases(self, app: AppName) -> dict[Version, Release]:
        """The same for its releases, by version."""
        role = self.delegated(app)
        return read_releases(app, role) if role else {}

    def summary(self, app: AppName) -> str:
        """The same for the one line about it."""
        role = self.delegated(app)
        return str(role.unrecognized_fields.get(SUMMARY, "")) if role else ""

    def _latest(self, name: str) -> Role | None:
        return self.proposed.get(name) or self._current(name)

    def _current(self, name: str) -> Role | None:
        if self.roles is None:
            return None
        top: dict[str, Role] = {"root": self.roles.root, "targets": self.roles.targets}
        return top.get(name) or self.roles.delegated(name)

    def propose(self, name: str, signed: Root | Targets) -> None:
        """Propose the next version of a role; signatures of an earlier proposal are void."""
        signed.version = (self.roles.version(name) if self.roles else 0) + 1
        signed.expires = expires(name, self.now)
        self.proposed[name] = Metadata(signed)

    def propose_root(self) -> Root:
        """Propose a root like the latest one; to be changed, then signed."""
        self.propose_again("root")
        return self.root

    def propose_targets(self) -> Targets:
        """The same for targets."""
        self.propose_again("targets")
        return self.targets

    def propose_again(self, name: str) -> None:
        """Propose a role as it is: to be valid for longer, or signed by other keys."""
        latest = self._latest(name)
        assert latest
        copy: Role = Metadata.from_bytes(latest.to_bytes())
        self.propose(name, copy.signed)

    def propose_releases(
        self, app: AppName, releases: Mapping[Version, Release], summary: str
    ) -> None:
        """Propose what an app's role is to say."""
        extra = {SUMMARY: summary} if summary else {}
        self.propose(app, Targets(targets=encode_releases(releases), unrecognized_fields=extra))

    def sign(self, signer: Signer) -> tuple[str, ...]:
        """Sign every proposal that this key may sign; gives their names."""
        key = PublicKey(signer.public_key)
        mine = tuple(name for name in self.proposed if key in self.signers_of(name))
        for name in mine:
            sign(self.proposed[name], [signer])
        return mine

    def signers_of(self, name: str) -> set[PublicKey]:
        """Whose signatures a proposal can use: by what is current, and by what is proposed."""
        return {key for each in self.delegators(name) for key in keys_of(each, name)}

    def delegators(self, name: str) -> Sequence[Root | Targets]:
        """Who says who may sign a role: the current one, and the one that is proposed."""
        above = "root" if name in TOP else "targets"
        found = [self._current(above), self.proposed.get(above)]
        return [each.signed for each in found if each]

    def ready(self) -> dict[str, Role]:
        """The proposals that can be published: everyone concerned has signed."""
        ready = {name: each for name, each in self.proposed.items() if name in TOP}
        if not all(self._is_complete(name) for name in ready) or not self._fits():
            ready = {}
        if self.roles is None and "targets" not in ready:
            return {}
        for name, each in self.proposed.items():
            # Whoever is about to lose an app publishes no more of it without the new keys.
            above = [self.targets] if "targets" in ready else self.delegators(name)
            if name not in TOP and all(is_signed(one, name, each) for one in above):
                ready[name] = each
        return ready

    def _is_complete(self, name: str) -> bool:
        return all(is_signed(each, name, self.proposed[name]) for each in self.delegators(name))

    def _fits(self) -> bool:
        """Whether all that would be below the proposed root and targets is what they ask for."""
        return bool(self._latest("targets") and not self._is_due() and not self.unsigned_apps())

    def _is_due(self) -> bool:
        """Whether the proposed root asks for other targets: other signers, another online key."""
        if "root" not in self.proposed:
            return False
        made = self._latest("targets")
        return not (
            made
            and is_signed(self.root, "targets", made)
            and set(keys_of(made.signed, catalog.ROLE)) == set(keys_of(self.root, "timestamp"))
        )

    def follow(self, key: PublicKey) -> None:
        """Propose what the other proposals make necessary, as far as this key may sign it."""
        if self._is_due() and key in self.signers_of("targets"):
            online_keys = keys_of(self.root, "timestamp")
            if "targets" not in self.proposed:
                self.propose_again("targets")
            if keys_of(self.targets, catalog.ROLE) != online_keys:
                delegations.delegate(self.propose_targets(), catalog.ROLE, online_keys, 1)
        for name in self.unsigned_apps():
            if name not in self.proposed and key in keys_of(self.targets, name):
                self.propose_again(name)

    def unsigned_apps(self) -> list[str]:
        """Apps whose role is not signed by the keys that the proposed targets give them."""
        if self.roles is None or "targets" not in self.proposed:
            return []
        before, after = self.roles.targets.signed, self.targets
        return [
            name
            for name in (after.delegations or Delegations({}, {})).roles or {}
            if name != catalog.ROLE
            and _signers(before, name) != _signers(after, name)
            and (role := self._latest(name))
            and not is_signed(after, name, role)
        ]

    def settle(self) -> Outcome:
        """Publish what is ready, durably; keep the rest for other signers."""
        ready = self.ready()
        offline = bool(ready) and not self.is_online(with_new_root="root" in ready)
        published = {} if offline else ready
        for name in self.proposed.keys() - published.keys():
            folder.put(self.folder, self.folder.proposal(name), self.proposed[name].to_bytes())
        if published:
            self.publication.publish(published)
            online.adopt(self.folder, keys_of(self.root, "timestamp"))
            for name in published:
                folder.remove(self.folder.proposal(name))
        return Outcome(
            published=tuple(sorted(published)), waiting=self._waiting(ready), offline=offline
        )

    def _waiting(self, ready: Mapping[str, Role]) -> dict[str, tuple[int, int]]:
        names = [*(self.proposed.keys() - ready.keys()), *self.unsigned_apps()]
        counts = {name: self._count(name) for name in sorted(names)}
        if self._is_due() and "targets" not in self.proposed:
            counts["targets"] = (0, threshold_of(self.root, "targets"))
        return {name: (has, needs) for name, (has, needs) in counts.items() if has < needs}

    @property
    def publication(self) -> Publication:
        """The means to publish."""
        return Publication(folder=self.folder, roles=self.roles, online=self.online, now=self.now)

    def is_online(self, *, with_new_root: bool) -> bool:
        """Whether the online key is here, that of the proposed root or of the current one."""
        root = self._latest("root") if with_new_root else self._current("root")
        assert root
        here = {PublicKey(each.public_key) for each in self.online}
        return bool(here & set(keys_of(root.signed, "timestamp")))

    def _count(self, name: str) -> tuple[int, int]:
        """The signatures that count, and that are needed, where most are missing."""
        above = self.delegators(name) if name in TOP else [self.targets]
        role = self._latest(name)
        assert role
        counts = [(count_signatures(each, name, role), threshold_of(each, name)) for each in above]
        return min(counts, key=lambda each: each[0] - each[1])


def _signers(targets: Targets, name: str) -> tuple[frozenset[PublicKey], int]:
    keys = frozenset(keys_of(targets, name))
    return keys, threshold_of(targets, name) if keys else 0


@contextmanager
def changing(
    where: Folder,
    *,
    now: int,
    purpose: str,
    timeout_s: float,
    waiting: Callable[[str], None],
    may_be_new: bool = False,
) -> Iterator[Draft]:
    """Hold a repository's lock, and give what it says and what is proposed.

    Args:
        where: The repository.
        now: Seconds since the epoch.
        purpose: As others will read it that wait for the lock.
        timeout_s: How long to wait for it.
        waiting: Called once with who has it if it must wait.
        may_be_new: Whether there may be nothing yet.

    Raises:
        LockedError: Somebody else changes it.
        NotFoundError: There is no repository.
        CorruptError: It is damaged.
        BadSignatureError: It is not signed by whom it should be.
    """
    if not may_be_new and not where.metadata.is_dir():
        raise _no_repository(where)
    with lock(
        where.lock,
        purpose=purpose,
        timeout_s=timeout_s,
        waiting=waiting,
        thing=str(where.path),
    ):
        folder.prepare(where)
        roles = read_roles(where)
        if roles is None and not may_be_new:
            raise _no_repository(where)
        if roles is not None:
            online.adopt(where, keys_of(roles.root.signed, "timestamp"))
        draft = Draft(folder=where, roles=roles, online=online.read(where), now=now)
        _read_proposals(draft)
        yield draft


def _no_repository(where: Folder) -> NotFoundError:
    return NotFoundError(
        f"there is no repository in {where.path}", hint="appb publish FILE --repo DIR makes one"
    )


def _read_proposals(draft: Draft) -> None:
    """Take up what an earlier signer has proposed; what is published or not signed is removed."""
    if draft.roles is None:
        return
    names = {path.stem for path in draft.folder.pending.glob("*.json")}
    for name in sorted(names, key=lambda each: (each not in TOP, each)):
        path = draft.folder.proposal(name)
        found = _read_proposal(draft, name, path.read_bytes())
        if found is None:
            folder.remove(path)
        else:
            draft.proposed[name] = found


def _read_proposal(draft: Draft, name: str, raw: bytes) -> Role | None:
    assert draft.roles
    found: Role | None = parse(raw, Root) if name == "root" else parse(raw, Targets)
    if found is None or found.signed.version != draft.roles.version(name) + 1:
        return None
    counts = (count_signatures(each, name, found) for each in draft.delegators(name))
    return found if any(counts) else None
