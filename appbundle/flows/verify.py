"""`appb verify` and `repair`: what is on disk against what was signed, and making it so again."""

import contextlib
import posixpath
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from msgspec.structs import replace

from appbundle.bundle.audit import check_manifest_frame, check_stream
from appbundle.bundle.manifest import File, Manifest
from appbundle.bundle.statement import parse_statement
from appbundle.errors import ConflictError, CorruptError, NotFoundError, TrustError
from appbundle.flows import authenticity
from appbundle.flows.authenticity import Policies
from appbundle.flows.context import Context
from appbundle.flows.sign import describe_signatures
from appbundle.layout import ABOUT, BUNDLE_DIR, SIGNED, Layout
from appbundle.names import AppName, BundleRef, Version
from appbundle.store import (
    check,
    frames,
    generations,
    listed,
    manifests,
    node,
    repair,
    stage,
    versions,
)
from appbundle.store.check import Digests, Problem
from appbundle.store.retention import Key
from appbundle.store.source import BundleStream, open_source
from appbundle.store.versions import About
from appbundle.system import files
from appbundle.trust import verify as trust
from appbundle.trust.verify import VerifiedBundle


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
    layout, policy = context.layout, authenticity.policies(context.layout)
    digests, problems, checked = Digests(), [], 0
    for name, version in _chosen(layout, ref):
        context.report.step(f"verifying {name} {version}")
        found, count = _verify_version(context, name, version, policy, digests)
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


def _chosen(layout: Layout, ref: BundleRef | None) -> list[Key]:
    """What is to be verified: every directory where a version may be, also a damaged one's."""
    names = listed.app_names(layout) if ref is None else [ref.name]
    found = [(name, v) for name in names for v in sorted(listed.version_names(layout, name))]
    if ref is None:
        return found
    found = [key for key in found if ref.version in (None, key[1])]
    if not found:
        raise NotFoundError(f"{ref} is not installed", hint="appb list shows what is")
    return found


def _verify_version(
    context: Context, name: AppName, version: Version, policy: Policies, digests: Digests
) -> tuple[list[Problem], int]:
    layout, prefix = context.layout, f"{name}/{version}"
    about, problems = _read_about(layout, name, version)
    try:
        bundle = _authentic_bundle(
            layout, name, version, policy, now=about.installed_at if about else context.now
        )
    except TrustError as error:
        return [*problems, Problem(f"{prefix}/{BUNDLE_DIR}/{SIGNED}", error.what)], 0
    except CorruptError as error:
        return [*problems, Problem(f"{prefix}/{BUNDLE_DIR}", error.what)], 0
    if about is not None and not _agrees(about, bundle):
        problems.append(Problem(_about_path(name, version), "not what the manifest says"))
    total, done = len(bundle.manifest.files), 0

    def advance(count: int) -> None:
        nonlocal done
        done = min(total, done + count)
        context.report.advance(done, total)

    tree = layout.version(name, version)
    found = check.check_tree(tree, bundle.manifest, digests, progress=advance)
    return problems + _below(prefix, found), total


def _below(prefix: str, problems: Iterable[Problem]) -> list[Problem]:
    return [Problem(posixpath.normpath(f"{prefix}/{p.path}"), p.problem) for p in problems]


def _about_path(name: AppName, version: Version) -> str:
    return f"{name}/{version}/{BUNDLE_DIR}/{ABOUT}"


def _read_about(
    layout: Layout, name: AppName, version: Version
) -> tuple[About | None, list[Problem]]:
    """Read a version's description, or say what is wrong with it."""
    try:
        about = versions.read_about(layout, name, version)
    except CorruptError:
        return None, [Problem(_about_path(name, version), "damaged")]
    return about, [] if about else [Problem(_about_path(name, version), "missing")]


def _authentic_bundle(
    layout: Layout, name: AppName, version: Version, policy: Policies, *, now: int
) -> VerifiedBundle:
    """Check a version's own signature again.

    Args:
        now: When it was installed: a key that was valid then was good enough.
    """
    papers = manifests.read_papers(layout, name, version)
    authentic = authenticity.check(papers.signed, policy, now=now, file=f"{name} {version}")
    if (authentic.statement.name, authentic.statement.version) != (name, version):
        raise CorruptError(f"these are the papers of {authentic.statement.name}")
    return trust.open_manifest(authentic, papers.manifest_frame)


def _agrees(about: About, bundle: VerifiedBundle) -> bool:
    """Whether a version's description says what its papers do.

    Who was trusted when it came cannot be known any more, but only who signed can have been.
    """
    expected = versions.describe(bundle, installed_at=about.installed_at)
    signed = {each["fingerprint"] for each in describe_signatures(bundle.signed)}
    return expected == replace(about, signers=expected.signers) and signed >= set(about.signers)


def _check_generations(layout: Layout) -> list[Problem]:
    current = generations.current(layout)
    if current is None:
        return []
    return [
        *(
            Problem(f".appb/generations/{current.number}", f"needs {missing}, which is not on disk")
            for missing in generations.missing_versions(layout, current)
        ),
        *(Problem(path, what) for path, what in generations.wrong_entries(layout, current)),
    ]


def verify_file(context: Context, path: str) -> Verified:
    """Check a bundle file wholly: signature, every frame, every tar header, every content."""
    policy = authenticity.policies(context.layout)
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
        problems: What had differed; paths are relative to `/apps`.
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
    layout, policy = context.layout, authenticity.policies(context.layout)
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
            _check_same_bundle(layout, ref, statement.manifest_sha256)
            context.report.step(f"verifying {ref}")
            about, problems = _find_problems(layout, bundle)
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
                    installed_at=about.installed_at if about else context.now,
                    progress=context.report.advance,
                )
                repair.exchange(staged.tree, tree)
                stage.link_to_current(layout, ref.name)
                relinked = _relink_others(context, ref, bundle.manifest, directory)
            except OSError as error:
                raise files.translate_os_error(error, f"repairing {ref}") from error
            finally:
                files.remove_tree(directory)
    return Repaired(ref=ref, problems=tuple(problems), objects=objects, relinked=relinked)


def _find_problems(layout: Layout, bundle: VerifiedBundle) -> tuple[About | None, list[Problem]]:
    """Compare a version with its bundle; gives its description too, if that is sound."""
    name, version = bundle.statement.name, bundle.statement.version
    about, problems = _read_about(layout, name, version)
    if about is not None and not _agrees(about, bundle):
        about, problems = None, [Problem(_about_path(name, version), "not what the manifest says")]
    try:
        manifests.read(layout, name, version)
    except CorruptError as error:
        problems.append(Problem(f"{name}/{version}/{BUNDLE_DIR}", error.what))
    tree = layout.version(name, version)
    found = check.check_tree(tree, bundle.manifest, Digests(), progress=lambda _: None)
    return about, problems + _below(f"{name}/{version}", found)


def _check_same_bundle(layout: Layout, ref: BundleRef, digest: str) -> None:
    """Refuse to put another bundle in a version's place; what is damaged says nothing.

    Raises:
        ConflictError: Neither description nor papers are of this bundle.
    """
    assert ref.version is not None
    said: set[str] = set()
    with contextlib.suppress(CorruptError):
        papers = manifests.read_papers(layout, ref.name, ref.version)
        said.add(parse_statement(papers.signed.statement).manifest_sha256)
    with contextlib.suppress(CorruptError):
        about = versions.read_about(layout, ref.name, ref.version)
        said |= {about.digest} if about else set()
    if said and digest not in said:
        raise ConflictError(f"{ref} was installed from another bundle than this one")


def _relink_others(
    context: Context, repaired: BundleRef, manifest: Manifest, directory: Path
) -> int:
    """Give other versions the new objects where they shared a damaged one."""
    layout, count = context.layout, 0
    contents = {(file.sha256, file.executable) for file in manifest.files if file.size}
    for name, version in _chosen(layout, None):
        if (name, version) == (repaired.name, repaired.version):
            continue
        try:
            other = manifests.read(layout, name, version)
        except CorruptError:
            continue
        shared = [file for file in other.files if (file.sha256, file.executable) in contents]
        tree = layout.version(name, version)
        damaged: list[File] = check.damaged_files(tree, shared)
        count += len(damaged) - len(check.relink(layout, directory, tree, damaged))
    return count
