"""`appb install`: verified bundles become versions and, together, one generation."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from appbundle.errors import ConflictError, DowngradeError, UsageError
from appbundle.flows import authenticity, switch
from appbundle.flows.context import Context
from appbundle.flows.switch import Switched
from appbundle.layout import Layout
from appbundle.names import AppName, BundleRef, Digest, Version
from appbundle.store import generations, node, settings, stage, versions
from appbundle.store.source import Source, open_source
from appbundle.system import files
from appbundle.trust.verify import AuthenticStatement, TrustPolicy


@dataclass(frozen=True, slots=True, kw_only=True)
class Installed:
    """What an installation did, or would do.

    Args:
        switched: The generation that is current now.
        versions: What the files were.
        new_bytes: Bytes of content that the node did not have before.
        new_files: Files with such content.
    """

    switched: Switched
    versions: tuple[BundleRef, ...]
    new_bytes: int
    new_files: int


@dataclass(slots=True)
class _Transaction:
    """What one `install` has gathered so far."""

    directory: Path
    private_fd: int
    staged: list[stage.Staged] = field(default_factory=list)
    refs: dict[AppName, Version] = field(default_factory=dict)
    releases: dict[AppName, int] = field(default_factory=dict)


def install(
    context: Context, paths: Sequence[str], *, switch_to: bool = True, allow_downgrade: bool = False
) -> Installed:
    """Install bundles and switch to them, all at once.

    Args:
        paths: Files, bundle directories, or `-` for standard input.
        switch_to: Make them current in one new generation.
        allow_downgrade: Accept a release number below the highest accepted.

    Raises:
        TrustError: A bundle is not one that this node accepts.
        CorruptError: A byte is not what was signed.
        ConflictError: The same version is there with other content.
        NoSpaceError: It does not fit; nothing is left of it.
    """
    layout, policy = context.layout, authenticity.policy(context.layout)
    with node.changing(
        layout, purpose="install", timeout_s=context.lock_timeout_s, waiting=context.waiting
    ):
        # Opened before anything is written: a write error since then is reported by its sync.
        with files.directory(layout.private) as private_fd:
            transaction = _Transaction(node.new_stage(layout), private_fd)
            try:
                for path in paths:
                    _take(context, transaction, path, policy, allow_downgrade=allow_downgrade)
                return _finish(context, transaction, switch_to=switch_to)
            except OSError as error:
                raise files.translate_os_error(error, "installing") from error
            finally:
                files.remove_tree(transaction.directory)


def _take(
    context: Context,
    transaction: _Transaction,
    path: str,
    policy: TrustPolicy,
    *,
    allow_downgrade: bool,
) -> None:
    """Verify one bundle and stage it, unless it is there already."""
    layout = context.layout
    with open_source(path) as source:
        context.report.step(f"verifying {source.name}")
        authentic = authenticity.authenticate(source, policy, now=context.now)
        statement = authentic.statement
        if statement.name in transaction.refs:
            raise UsageError(f"two bundles of {statement.name} cannot be installed at once")
        if not allow_downgrade:
            check_downgrade(layout, statement.name, statement.release)
        if not is_installed(layout, statement.name, statement.version, statement.manifest_sha256):
            _stage(context, transaction, source, authentic)
        transaction.refs[statement.name] = statement.version
        transaction.releases[statement.name] = statement.release


def _stage(
    context: Context, transaction: _Transaction, source: Source, authentic: AuthenticStatement
) -> None:
    bundle = authenticity.open_bundle(source, authentic)
    stage.check_requirements(bundle.manifest, root=context.layout.root)
    context.report.step(f"unpacking {bundle.statement.name} {bundle.statement.version}")
    transaction.staged.append(
        stage.stage(
            context.layout,
            transaction.private_fd,
            transaction.directory / f"tree-{len(transaction.staged)}",
            bundle,
            source,
            installed_at=context.now,
            progress=context.report.advance,
        )
    )


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


def is_installed(layout: Layout, name: AppName, version: Version, digest: Digest) -> bool:
    """Whether exactly this bundle is on disk.

    Raises:
        ConflictError: The version is, but with other content.
    """
    about = versions.read_about(layout, name, version)
    if about is None:
        return False
    if about.digest != digest:
        raise ConflictError(
            f"{name} {version} is installed with other content",
            hint=f"a new content needs a new version; or first: appb remove {name}@{version}",
        )
    return True


def _finish(context: Context, transaction: _Transaction, *, switch_to: bool) -> Installed:
    """Publish what was staged and switch to it."""
    layout = context.layout
    before = generations.current(layout)
    apps = dict(before.apps) if before else {}
    wanted = apps | transaction.refs
    prepared = None
    if switch_to and wanted != apps:
        prepared = switch.prepare(context, transaction.directory, wanted, _reason(transaction))
    if prepared:
        generations.sync(prepared[1])
    for name, release in transaction.releases.items():
        if release > settings.accepted_release(layout, name):
            settings.record_release(layout, name, release)
    for each in transaction.staged:
        stage.publish(layout, each)
    if prepared:
        switched = switch.activate_prepared(context, before, prepared)
    else:
        outcome = "unchanged" if not transaction.staged else "installed"
        switched = Switched(generation=before, outcome=outcome, changes=())
    return Installed(
        switched=switched,
        versions=tuple(BundleRef(name, version) for name, version in transaction.refs.items()),
        new_bytes=sum(each.new_bytes for each in transaction.staged),
        new_files=sum(each.new_files for each in transaction.staged),
    )


def _reason(transaction: _Transaction) -> str:
    return "install " + " ".join(f"{name}@{version}" for name, version in transaction.refs.items())


def plan(
    context: Context, paths: Sequence[str], *, switch_to: bool = True, allow_downgrade: bool = False
) -> Installed:
    """Verify bundles and say what installing them would do; changes nothing.

    Raises:
        AppbError: As `install` would, as far as that can be known without unpacking.
    """
    layout, policy = context.layout, authenticity.policy(context.layout)
    refs: dict[AppName, Version] = {}
    new_bytes = new_files = 0
    for path in paths:
        with open_source(path) as source:
            authentic = authenticity.authenticate(source, policy, now=context.now)
            statement = authentic.statement
            bundle = authenticity.open_bundle(source, authentic)
        if not allow_downgrade:
            check_downgrade(layout, statement.name, statement.release)
        stage.check_requirements(bundle.manifest, root=layout.root)
        if not is_installed(layout, statement.name, statement.version, statement.manifest_sha256):
            added_bytes, added_files = stage.count_new(layout, bundle.manifest)
            new_bytes, new_files = new_bytes + added_bytes, new_files + added_files
        refs[statement.name] = statement.version
    before = generations.current(layout)
    changes = switch.changes(before.apps if before else {}, refs) if switch_to else ()
    return Installed(
        switched=Switched(generation=before, outcome="planned", changes=tuple(changes)),
        versions=tuple(BundleRef(name, version) for name, version in refs.items()),
        new_bytes=new_bytes,
        new_files=new_files,
    )
