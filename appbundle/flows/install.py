"""`appb install`: verified bundles become versions and, together, one generation."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from appbundle.bundle.manifest import Manifest
from appbundle.bundle.statement import Statement
from appbundle.errors import (
    ConflictError,
    DowngradeError,
    RevertFailedError,
    UnhealthyError,
    UsageError,
)
from appbundle.flows import authenticity, consequences, cost, switch
from appbundle.flows.arguments import of_words
from appbundle.flows.consequences import Switched
from appbundle.flows.context import Context
from appbundle.flows.cost import Cost
from appbundle.flows.goal import Added, Goal, Unchanged
from appbundle.flows.origin import Origin, read
from appbundle.layout import Layout
from appbundle.names import AppName, BundleRef, Version
from appbundle.repository import bindings
from appbundle.repository.bundle import RemoteBundle
from appbundle.store import (
    generations,
    node,
    pending,
    removal,
    settings,
    stage,
    templates,
    versions,
)
from appbundle.store.source import Source
from appbundle.system import files
from appbundle.trust.verify import AuthenticStatement

_ADDED = Added()


@dataclass(frozen=True, slots=True, kw_only=True)
class Installed:
    """What an installation did, or would do.

    Args:
        switched: The generation that is current now, or would be.
        versions: What the files were.
        cost: What that took, or would take.
    """

    switched: Switched
    versions: tuple[BundleRef, ...]
    cost: Cost


@dataclass(slots=True)
class _Transaction:
    """What one `install` has gathered so far."""

    directory: Path
    private_fd: int
    helpers: ExitStack
    begun: list[Manifest] = field(default_factory=list)
    staged: list[stage.Staged] = field(default_factory=list)
    published: list[stage.Staged] = field(default_factory=list)
    number: int | None = None
    refs: dict[AppName, Version] = field(default_factory=dict)
    releases: dict[AppName, int] = field(default_factory=dict)
    repositories: dict[AppName, str] = field(default_factory=dict)
    cost: Cost = field(default_factory=Cost)


def install(
    context: Context,
    words: Sequence[str],
    *,
    repository: str | None = None,
    switch_to: bool = True,
    allow_downgrade: bool = False,
) -> Installed:
    """Install bundles and switch to them, all at once.

    Args:
        words: Files, bundle directories, `-` for standard input, or names of apps in repositories.
        repository: Where names are looked up; otherwise where they are bound to.
        switch_to: Make them current in one new generation.
        allow_downgrade: Accept a release number below the highest accepted.

    Raises:
        TrustError: A bundle is not one that this node accepts.
        CorruptError: A byte is not what was signed.
        ConflictError: The same version is there with other content.
        NoSpaceError: It does not fit; nothing is left of it.
        NotFoundError, UnreachableError: It is not there, or cannot be had.
    """
    origins = of_words(context, words, repository=repository)
    goal = _ADDED if switch_to else Unchanged()
    return install_from(context, origins, goal=goal, allow_downgrade=allow_downgrade)


def install_from(
    context: Context,
    origins: Sequence[Origin],
    *,
    goal: Goal = _ADDED,
    allow_downgrade: bool = False,
) -> Installed:
    """Install bundles from wherever they come, and switch to them, all at once.

    Args:
        goal: What they lead to.

    Raises:
        AppbError: As `install`.
    """
    with _transaction(context) as transaction:

        def take(source: Source, authentic: AuthenticStatement) -> Statement:
            if not _is_there(
                context.layout,
                authentic.statement,
                transaction.refs,
                switch_to=goal.switches,
                allow_downgrade=allow_downgrade,
            ):
                _stage(context, transaction, source, authentic, goal)
            return authentic.statement

        for each in origins:
            statement = read(context, each, take)
            transaction.refs[statement.name] = statement.version
            transaction.releases[statement.name] = statement.release
            if each.repository:
                transaction.repositories[statement.name] = each.repository
        done = _finish(context, transaction, goal)
    if goal.switches and done.switched.outcome == "unchanged":
        _finish_interrupted(context)
    return done


def _finish_interrupted(context: Context) -> None:
    """Have services follow, if whoever switched to what is current died before they did."""
    found = pending.read(context.layout)
    if found and not found.waiting and found.after == generations.current_number(context.layout):
        from appbundle.flows import confirm

        confirm.resume(context)


@contextmanager
def _transaction(context: Context) -> Iterator[_Transaction]:
    """Hold the lock and a stage; if the block fails, nothing of it is left."""
    layout, done = context.layout, False
    with node.changing(
        layout, purpose="install", timeout_s=context.lock_timeout_s, waiting=context.waiting
    ):
        # Opened before anything is written: a write error since then is reported by its sync.
        with files.directory(layout.private) as private_fd, ExitStack() as helpers:
            try:
                transaction = _Transaction(node.new_stage(layout), private_fd, helpers)
                try:
                    yield transaction
                    done = True
                except (UnhealthyError, RevertFailedError):
                    # What was installed is whole, and its generation tells why it failed; after a
                    # way back that failed too, services may run from it.
                    done = True
                    raise
                finally:
                    files.remove_tree(transaction.directory)
                    if not done:
                        _undo(layout, transaction)
            except OSError as error:
                raise files.translate_os_error(error, "installing") from error


def _undo(layout: Layout, transaction: _Transaction) -> None:
    """Take back what has its place already, unless it is current; none of it needs space."""
    number = transaction.number
    if number is not None and number == generations.current_number(layout):
        return
    if number is not None and number in generations.numbers(layout):
        removal.remove_generation(layout, number)
    for each in transaction.published:
        statement = each.bundle.statement
        removal.remove_version(layout, statement.name, statement.version, each.bundle.manifest)
    for manifest in transaction.begun:
        removal.free_contents(layout, manifest)
        removal.drop_empty_app(layout, AppName(manifest.name))


def _stage(
    context: Context,
    transaction: _Transaction,
    source: Source,
    authentic: AuthenticStatement,
    goal: Goal,
) -> None:
    bundle = authenticity.open_bundle(source, authentic)
    goal.admit(context, bundle.manifest)
    stage.check_requirements(bundle.manifest, root=context.layout.root)
    verb = "fetching" if isinstance(source, RemoteBundle) else "unpacking"
    context.report.step(f"{verb} {bundle.statement.name} {bundle.statement.version}")
    if bundle.manifest.templates and not any(each.templates for each in transaction.begun):
        # Unpacking waits for the disk in the end; what renders starts meanwhile.
        transaction.helpers.enter_context(templates.ahead())
    transaction.begun.append(bundle.manifest)
    tree = transaction.directory / f"tree-{len(transaction.staged)}"
    try:
        staged = stage.stage(
            context.layout,
            transaction.private_fd,
            tree,
            bundle,
            source,
            installed_at=context.now,
            progress=context.report.advance,
        )
    except BaseException:
        # Another mirror may be tried, which begins anew.
        files.remove_tree(tree)
        raise
    transaction.staged.append(staged)
    transaction.cost += cost.of_staged(source, staged)


def _is_there(
    layout: Layout,
    statement: Statement,
    others: Mapping[AppName, Version],
    *,
    switch_to: bool,
    allow_downgrade: bool,
) -> bool:
    """Whether exactly this bundle is on disk already; or refuse it.

    Args:
        others: What else is installed at once.

    Raises:
        DowngradeError: It is older than what this node accepted. Installing once more what is
            current (or, without a switch, what is there) changes nothing and is no downgrade.
        ConflictError: The version is there, but with other content.
    """
    name, version = statement.name, statement.version
    if name in others:
        raise UsageError(f"two bundles of {name} cannot be installed at once")
    about = versions.read_about(layout, name, version)
    same = about is not None and about.digest == statement.manifest_sha256
    stays = same and (not switch_to or generations.current_version(layout, name) == version)
    if not allow_downgrade and not stays:
        check_downgrade(layout, name, statement.release)
    if about is not None and not same:
        raise ConflictError(
            f"{name} {version} is installed with other content",
            hint=f"a new content needs a new version; or first: appb remove {name}@{version}",
        )
    return same


def check_downgrade(layout: Layout, name: AppName, release: int) -> None:
    """Refuse an older release than this node has accepted.

    Raises:
        DowngradeError: With both numbers.
    """
    floor = settings.accepted_release(layout, name)
    if release < floor:
        raise DowngradeError(
            f"release {release} of {name} is older than release {floor}, which this node accepted",
            hint="--allow-downgrade installs it all the same; "
            "appb switch goes back to versions on disk",
        )


def _finish(context: Context, transaction: _Transaction, goal: Goal) -> Installed:
    """Publish what was staged and switch to what it leads to."""
    layout = context.layout
    told = {AppName(m.name): m for m in transaction.begun}
    step = goal.step(context, transaction.refs, told)
    prepared = None
    if step.after is not None:
        # Before anything is published: what may not go back is refused at once.
        consequences.losses(context, step.before, step.after, told)
        trees = {each.bundle.statement.name: each.tree for each in transaction.staged}
        prepared = switch.prepare(
            context,
            step.before,
            step.after,
            transaction.directory,
            told=told,
            trees=trees,
            wishes=step.wishes,
        )
        transaction.number = step.after.number
    for name, release in transaction.releases.items():
        if release > settings.accepted_release(layout, name):
            settings.record_release(layout, name, release)
    for name, repository in transaction.repositories.items():
        if bindings.bound_to(layout, name) != repository:
            bindings.bind(layout, name, repository)
    for each in transaction.staged:
        stage.publish(layout, each)
        transaction.published.append(each)
    if prepared is not None:
        switched = switch.activate_prepared(context, step.before, prepared)
    else:
        outcome = "installed" if transaction.staged else "unchanged"
        switched = Switched(generation=step.before, outcome=outcome, changes=())
    return Installed(
        switched=switched,
        versions=_refs(transaction.refs),
        cost=transaction.cost,
    )


def _refs(refs: Mapping[AppName, Version]) -> tuple[BundleRef, ...]:
    return tuple(BundleRef(name, version) for name, version in refs.items())


def plan(
    context: Context,
    words: Sequence[str],
    *,
    repository: str | None = None,
    switch_to: bool = True,
    allow_downgrade: bool = False,
) -> Installed:
    """Verify bundles and say what installing them would do; changes nothing.

    Raises:
        AppbError: As `install` would, as far as that can be known without unpacking.
    """
    origins = of_words(context, words, repository=repository)
    goal = _ADDED if switch_to else Unchanged()
    return plan_from(context, origins, goal=goal, allow_downgrade=allow_downgrade)


def plan_from(
    context: Context,
    origins: Sequence[Origin],
    *,
    goal: Goal = _ADDED,
    allow_downgrade: bool = False,
) -> Installed:
    """The same for bundles from wherever they come; of a repository's only manifests are fetched.

    Raises:
        AppbError: As `plan`.
    """
    layout = context.layout
    refs: dict[AppName, Version] = {}
    given: set[str] = set()
    told: dict[AppName, Manifest] = {}
    total = Cost()

    def look(source: Source, authentic: AuthenticStatement) -> tuple[Manifest, Cost]:
        manifest = authenticity.open_bundle(source, authentic).manifest
        goal.admit(context, manifest)
        if _is_there(
            layout,
            authentic.statement,
            refs,
            switch_to=goal.switches,
            allow_downgrade=allow_downgrade,
        ):
            return manifest, Cost()
        stage.check_requirements(manifest, root=layout.root)
        return manifest, cost.find_cost(layout, source, manifest, given)

    for each in origins:
        manifest, needed = read(context, each, look)
        total += needed
        name = AppName(manifest.name)
        refs[name], told[name] = Version(manifest.version), manifest
    step = goal.step(context, refs, told)
    before, after = step.before, step.after
    if after is not None:
        planned = consequences.foresee(context, before, after, told=told)
    else:
        planned = Switched(generation=before, outcome="planned", changes=())
    return Installed(
        switched=planned,
        versions=_refs(refs),
        cost=total,
    )
