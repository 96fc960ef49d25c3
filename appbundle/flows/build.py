"""`appb build`: a recipe's sources become a tree, and the tree a bundle.

Until the one rename of the finished file nothing is written but below the cache (and, where they
are missing or it is asked for, the recipe's lock and footprint).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from appbundle.build import checks, collect, encode, footprint, lock, normalise, recipe, sbom
from appbundle.build.collect import Collected
from appbundle.build.recipe import Recipe
from appbundle.build.sources.chroot import TRACES
from appbundle.bundle.container import open_manifest_frame
from appbundle.bundle.manifest import Manifest
from appbundle.bundle.rules import read_manifest
from appbundle.bundle.statement import Signed, encode_statement, parse_statement
from appbundle.errors import BuildError, NotFoundError, UnsupportedError, UsageError
from appbundle.flows.context import Context
from appbundle.names import Digest, escape
from appbundle.store import bundle_file
from appbundle.store.source import open_source
from appbundle.system import files, rooms
from appbundle.trust import sshsig

_WORK = "work"
_KEPT = "no bundle was written"


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What a build was told beside its recipe.

    Args:
        cache: Absolute; downloads, and the tree while it is made.
        created: Seconds since the epoch: the time of everything in the bundle.
        output: The bundle file; by default NAME-VERSION.bundle in the current directory.
        directory: Make a bundle directory; without `output` no file is made then.
        previous: The bundle file of the release before, which orders the payload.
        release: Which of the recipe's releases.
        update_lock: Pin inputs anew.
        update_footprint: Accept the entries that are found.
        level: zstd's.
    """

    cache: Path
    created: int
    output: Path | None = None
    directory: Path | None = None
    previous: str | None = None
    release: str | None = None
    update_lock: bool = False
    update_footprint: bool = False
    level: int = encode.DEFAULT_LEVEL


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """A bundle that was made.

    Args:
        name: The app.
        version: Its version.
        digest: The bundle's identity.
        file: Where it is, if it is a file.
        directory: Where it is, if it is a directory.
        size_bytes: Of the file, or of the contents in the directory.
        files: How many it holds.
        signed: Whether it carries a signature.
    """

    name: str
    version: str
    digest: Digest
    file: Path | None
    directory: Path | None
    size_bytes: int
    files: int
    signed: bool


def build(
    context: Context, directory: Path, options: Options, *, signer: sshsig.Signer | None = None
) -> Built:
    """Make a bundle.

    Args:
        directory: The recipe's.
        signer: Signs the statement; without one the bundle has no signature.

    Raises:
        BuildError: Sources, tree or footprint break a rule; all findings are listed.
        NoSpaceError: The disk is full.
    """
    what = recipe.read_recipe(directory, release=options.release)
    previous = read_previous(options.previous, what) if options.previous else None
    target = _find_target(what, options)
    _check_targets(target, options.directory)
    try:
        with rooms.room(options.cache / _WORK) as room:
            tree = room / "tree"
            files.make_directory(tree)
            collected = _make_tree(context, what, tree, options)

            def accept(tables: encode.Tables) -> None:
                _check_footprint(context, what, tables, options, moved_on=collected.moved_on)

            return _encode(context, what, tree, target, options, previous, signer, accept)
    except OSError as error:
        raise files.translate_os_error(error, f"building {what.name}", kept=_KEPT) from error


def read_previous(path: str, what: Recipe) -> Manifest:
    """Read the manifest of the bundle before; its signature matters only to who installs it.

    Raises:
        BuildError: It is of another app, or not of an earlier release.
    """
    with open_source(path) as source:
        statement = parse_statement(source.signed().statement)
        frame = source.manifest_frame(statement.manifest_frame_size)
    bundle_file.check_digest(frame, statement.manifest_frame_sha256, of="manifest frame")
    manifest = read_manifest(
        open_manifest_frame(frame, size=statement.manifest_size, sha256=statement.manifest_sha256)
    )
    if manifest.name != what.name:
        raise BuildError(
            f"{escape(path)} is a bundle of {manifest.name}, not of {what.name}", kept=_KEPT
        )
    if manifest.release >= what.release:
        raise BuildError(
            f"{escape(path)} is release {manifest.release} of {what.name}, "
            f"which is not before release {what.release}",
            kept=_KEPT,
            hint="raise the recipe's release number, or name an earlier bundle",
        )
    return manifest


def _find_target(what: Recipe, options: Options) -> Path | None:
    """Say where the bundle file goes; None if only a directory is wanted."""
    if options.output or options.directory:
        return options.output
    return Path(f"{what.name}-{what.version}.bundle")


def _check_targets(file: Path | None, directory: Path | None) -> None:
    """Find out before the long work whether its result could be written."""
    if directory:
        encode.check_new(directory)
    for target in (file, directory):
        if target and not target.parent.is_dir():
            raise NotFoundError(f"there is no directory {escape(str(target.parent))}")
        if target and not files.is_writable(target.parent):
            raise UnsupportedError(f"you may not write to {escape(str(target.parent))}")
    if file and file.is_dir():
        raise UsageError(f"{escape(str(file))} is a directory", hint="--dir makes one")


def _make_tree(context: Context, what: Recipe, tree: Path, options: Options) -> Collected:
    """Collect, check and normalise; afterwards the tree is what the bundle will hold."""
    context.report.step(f"collecting {what.name} {what.version}")
    collected = _collect(context, what, tree, options)
    _write_sbom(what, collected, tree, options)
    context.report.step(f"checking {what.name} {what.version}")
    checks.check_tree(tree, _expectations(what, options), progress=context.report.advance)
    normalise.normalise(tree, self_contained=not what.requires.base)
    context.report.step(f"compiling {what.name} {what.version}")
    normalise.compile_bytecode(
        tree, base=checks.find_base(what.requires.base), progress=context.report.advance
    )
    return collected


def _collect(context: Context, what: Recipe, tree: Path, options: Options) -> Collected:
    """Fill the tree, and pin what was taken if nothing was pinned or it is wanted."""
    pinned = lock.read_lock(what.lock)
    collected = collect.collect(
        what,
        pinned,
        tree,
        cache=options.cache,
        report=context.report,
        update_lock=options.update_lock,
    )
    if (pinned is None or options.update_lock) and lock.write_lock(what.lock, collected.lock):
        context.report.note(f"wrote {what.lock}; commit it with the recipe")
    return collected


def _expectations(what: Recipe, options: Options) -> checks.Expectations:
    return checks.Expectations(
        programs=tuple(_programs(what)),
        files=tuple(path for each in what.templates for path in (each.source, each.target)),
        mount_points=what.mount_points,
        outward=what.outward,
        architecture=what.requires.architecture,
        base=checks.find_base(what.requires.base),
        foreign=(
            *filter(_is_telling, (str(options.cache), str(what.directory.absolute()))),
            *TRACES,
        ),
    )


def _is_telling(path: str) -> bool:
    """Whether a path names this machine's own: `/build` and the like stand in anybody's files."""
    return path.strip("/").count("/") > 0


def _programs(what: Recipe) -> Iterator[str]:
    """What is started of a bundle, as the recipe says."""
    if what.run is not None:
        yield what.run.argv[0]
    for argv in what.commands.values():
        yield from argv[:1]
    for service in what.services:
        yield from service.argv[:1]
        if service.health is not None:
            yield from service.health.command[:1]
    for task in what.tasks:
        yield from task.argv[:1]


def _write_sbom(what: Recipe, collected: Collected, tree: Path, options: Options) -> None:
    parts = [
        sbom.Part(name=each.name, version=each.version, sha256=each.sha256, purl=each.purl)
        for each in collected.components
    ]
    sbom.write(
        tree,
        sbom.encode(
            name=what.name,
            version=what.version,
            licence=what.licence,
            parts=parts,
            created=options.created,
        ),
    )


def _encode(
    context: Context,
    what: Recipe,
    tree: Path,
    target: Path | None,
    options: Options,
    previous: Manifest | None,
    signer: sshsig.Signer | None,
    accept: Callable[[encode.Tables], None],
) -> Built:
    """Compare with the footprint, compress, sign, and ★ write."""
    with encode.encode(
        tree,
        _describe(what, options.created),
        spool=target.parent if target else tree.parent,
        previous=previous,
        level=options.level,
        accept=accept,
        step=context.report.step,
        progress=context.report.advance,
    ) as made:
        statement = encode_statement(made.statement)
        signatures = (sshsig.sign_blob(statement, signer),) if signer else ()
        signed = Signed(statement, signatures)
        context.report.step(f"writing {what.name} {what.version}")
        size_bytes = sum(file.size for file in made.manifest.files)
        if options.directory:
            encode.write_bundle_directory(
                options.directory, tree, signed=signed, manifest_frame=made.manifest_frame
            )
        # Gone before the flush, most of it need never reach the disk.
        files.remove_tree(tree)
        if target:
            size_bytes = encode.write_bundle_file(
                target, signed=signed, manifest_frame=made.manifest_frame, frames=made.payload
            )
        return Built(
            name=what.name,
            version=what.version,
            digest=made.statement.manifest_sha256,
            file=target,
            directory=options.directory,
            size_bytes=size_bytes,
            files=len(made.manifest.files),
            signed=signer is not None,
        )


def _check_footprint(
    context: Context, what: Recipe, tables: encode.Tables, options: Options, *, moved_on: bool
) -> None:
    expected = footprint.read(what.footprint)
    if moved_on and expected is not None and not options.update_footprint:
        for line in footprint.compare(expected, footprint.render(tables, what.unlisted)):
            context.report.note(f"{what.footprint.name}: {line}")
    elif footprint.check(
        what.footprint, tables, update=options.update_footprint, unlisted=what.unlisted
    ):
        context.report.note(f"wrote {what.footprint}; commit it with the recipe")


def _describe(what: Recipe, created: int) -> Manifest:
    """Say of the bundle what the recipe says; tables and frames follow from the tree."""
    return Manifest(
        format=1,
        name=what.name,
        version=what.version,
        release=what.release,
        summary=what.summary,
        licence=what.licence,
        homepage=what.homepage,
        source=what.source,
        created=created,
        requires=what.requires,
        run=what.run,
        commands=what.commands,
        services=what.services,
        settings=what.settings,
        templates=what.templates,
        tasks=what.tasks,
        rollback=what.rollback,
        outward=tuple(sorted(what.outward)),
    )
