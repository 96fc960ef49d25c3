"""`appb verify` and `repair`: what is on disk against what was signed, and making it so again."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from appbundle.bundle.audit import check_manifest_frame, check_stream
from appbundle.bundle.manifest import File, Manifest
from appbundle.errors import AppbError, ConflictError, CorruptError, NotFoundError, TrustError
from appbundle.flows import authenticity
from appbundle.flows.context import Context
from appbundle.layout import Layout
from appbundle.names import BundleRef
from appbundle.store import check, frames, generations, manifests, node, repair, stage, versions
from appbundle.store.check import Digests, Problem
from appbundle.store.source import BundleStream, open_source
from appbundle.store.versions import Installed
from appbundle.system import files
from appbundle.trust import verify as trust
from appbundle.trust.verify import TrustPolicy


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """What a verification found.

    Args:
        checked_files: Files and pool objects that were read.
        problems: What differs; paths are relative to `/apps`.
    """

    checked_files: int
    problems: tuple[Problem, ...]

    @property
    def ok(self) -> bool:
        """Whether nothing differs."""
        return not self.problems


def verify(context: Context, ref: BundleRef | None = None, *, full: bool = False) -> Verified:
    """Read every byte of installed versions and compare it with the signed manifests.

    Args:
        ref: One app or version; by default everything, the pool included.
        full: Also read the pool when only one app was named.
    """
    layout, policy = context.layout, authenticity.policy(context.layout)
    chosen = list(_chosen(layout, ref))
    digests, problems, checked = Digests(), [], 0
    for each in chosen:
        context.report.step(f"verifying {each.name} {each.version}")
        found, count = _verify_version(context, each, policy, digests)
        problems += found
        checked += count
    if ref is None or full:
        context.report.step("verifying the pool")
        count, damaged = check.check_pool(layout, digests)
        checked += count
        problems += [Problem(f".appb/objects/{each.path}", each.problem) for each in damaged]
    if ref is None:
        problems += _check_generations(layout)
    return Verified(checked_files=checked, problems=tuple(problems))


def _chosen(layout: Layout, ref: BundleRef | None) -> Iterable[Installed]:
    if ref is None:
        return versions.installed(layout)
    if ref.version is not None:
        return [versions.find(layout, ref, current=None)]
    found = versions.installed_of(layout, ref.name)
    if not found:
        raise NotFoundError(f"{ref.name} is not installed", hint="appb list shows what is")
    return found


def _verify_version(
    context: Context, installed: Installed, policy: TrustPolicy, digests: Digests
) -> tuple[list[Problem], int]:
    layout = context.layout
    prefix = f"{installed.name}/{installed.version}"
    try:
        manifest = _authentic_manifest(layout, installed, policy)
    except TrustError as error:
        return [Problem(f"{prefix}/.bundle/signed", error.what)], 0
    except CorruptError as error:
        return [Problem(f"{prefix}/.bundle", error.what)], 0
    total, done = len(manifest.files), 0

    def advance(count: int) -> None:
        nonlocal done
        done = min(total, done + count)
        context.report.advance(done, total)

    tree = layout.version(installed.name, installed.version)
    found = check.check_tree(tree, manifest, digests, progress=advance)
    return [Problem(f"{prefix}/{each.path}", each.problem) for each in found], total


def _authentic_manifest(layout: Layout, installed: Installed, policy: TrustPolicy) -> Manifest:
    """Check a version's own signature again, as of the time when it was installed."""
    papers = manifests.read_papers(layout, installed.name, installed.version)
    authentic = trust.authenticate(
        papers.signed.statement,
        papers.signed.signatures,
        policy,
        installed.about.installed_at,
        file=f"{installed.name} {installed.version}",
    )
    bundle = trust.open_manifest(authentic, papers.manifest_frame)
    expected = versions.describe(bundle, installed_at=installed.about.installed_at)
    if expected.digest != installed.about.digest or expected.manifest != installed.about.manifest:
        raise CorruptError("about.json is not what the manifest says")
    return bundle.manifest


def _check_generations(layout: Layout) -> list[Problem]:
    current = generations.current(layout)
    if current is None:
        return []
    return [
        Problem(f".appb/generations/{current.number}", f"needs {missing}, which is not on disk")
        for missing in generations.missing_versions(layout, current)
    ]


def verify_file(context: Context, path: str) -> Verified:
    """Check a bundle file wholly: signature, every frame, every tar header, every content."""
    policy = authenticity.policy(context.layout)
    with open_source(path) as source:
        context.report.step(f"verifying {source.name}")
        bundle = authenticity.open_bundle(
            source, authenticity.authenticate(source, policy, now=context.now)
        )
        manifest = bundle.manifest
        check_manifest_frame(manifest, bundle.manifest_frame)
        if isinstance(source, BundleStream):
            check_stream(manifest, frames.plain(source, manifest, progress=context.report.advance))
            source.finish()
            return Verified(checked_files=len(manifest.files), problems=())
        found = check.check_directory(source, manifest)
        return Verified(checked_files=len(manifest.files), problems=tuple(found))


@dataclass(frozen=True, slots=True, kw_only=True)
class Repaired:
    """What a repair did.

    Args:
        ref: The version.
        problems: What had differed.
        objects: Damaged pool objects that were dropped.
        relinked: Files of other versions that shared the damage and are whole again.
    """

    ref: BundleRef
    problems: tuple[Problem, ...]
    objects: int
    relinked: int


def repair_from(context: Context, path: str) -> Repaired:
    """Make an installed version whole again from its bundle file.

    The version is unpacked anew beside the damaged one and takes its place with one rename, so a
    running service keeps the files that it has open. Damaged pool objects are dropped first, and
    other versions that shared one get the new object.

    Raises:
        NotFoundError: The bundle's version is not installed.
        ConflictError: It is installed with other content.
    """
    layout, policy = context.layout, authenticity.policy(context.layout)
    with node.changing(
        layout, purpose="repair", timeout_s=context.lock_timeout_s, waiting=context.waiting
    ):
        with files.directory(layout.private) as private_fd, open_source(path) as source:
            bundle = authenticity.open_bundle(
                source, authenticity.authenticate(source, policy, now=context.now)
            )
            statement = bundle.statement
            ref = BundleRef(statement.name, statement.version)
            tree = layout.version(statement.name, statement.version)
            if not tree.is_dir():
                raise NotFoundError(f"{ref} is not installed", hint=f"appb install {path}")
            installed_at = _installed_at(context, ref, statement.manifest_sha256)
            digests = Digests()
            context.report.step(f"verifying {ref}")
            problems = check.check_tree(tree, bundle.manifest, digests, progress=lambda _: None)
            objects = check.drop_damaged_objects(layout, bundle.manifest.files)
            context.report.step(f"unpacking {ref}")
            directory = node.new_stage(layout)
            try:
                staged = stage.stage(
                    layout,
                    private_fd,
                    directory / "tree",
                    bundle,
                    source,
                    installed_at=installed_at,
                    progress=context.report.advance,
                )
                repair.exchange(staged.tree, tree)
                relinked = _relink_others(context, ref, bundle.manifest, directory)
            except OSError as error:
                raise files.translate_os_error(error, f"repairing {ref}") from error
            finally:
                files.remove_tree(directory)
    return Repaired(ref=ref, problems=tuple(problems), objects=objects, relinked=relinked)


def _installed_at(context: Context, ref: BundleRef, digest: str) -> int:
    """When the damaged version was installed; now, if it cannot say."""
    assert ref.version is not None
    try:
        about = versions.read_about(context.layout, ref.name, ref.version)
    except AppbError:
        return context.now
    if about is None:
        return context.now
    if about.digest != digest:
        raise ConflictError(f"{ref} was installed from another bundle than this one")
    return about.installed_at


def _relink_others(
    context: Context, repaired: BundleRef, manifest: Manifest, directory: Path
) -> int:
    """Give other versions the new objects where they shared a damaged one."""
    layout, count = context.layout, 0
    contents = {(file.sha256, file.executable) for file in manifest.files if file.size}
    for each in versions.installed(layout):
        if (each.name, each.version) == (repaired.name, repaired.version):
            continue
        try:
            other = manifests.read(layout, each.name, each.version)
        except CorruptError:
            continue
        shared = [file for file in other.files if (file.sha256, file.executable) in contents]
        tree = layout.version(each.name, each.version)
        damaged: list[File] = check.damaged_files(tree, shared)
        count += len(damaged) - len(check.relink(layout, directory, tree, damaged))
    return count
