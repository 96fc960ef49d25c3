"""What a manifest may say: reading is strict, so that nothing behind it needs to check again.

The rules are those of docs/format.md, "Manifest"; each refusal names the rule and the entry.
"""

import hashlib
import re
from collections.abc import Iterable, Sequence
from typing import TypeVar

import msgspec

from appbundle.bundle.command_rules import check_commands
from appbundle.bundle.manifest import File, Frame, Link, Manifest, Run
from appbundle.bundle.paths import leads_to
from appbundle.bundle.payload import MAX_COMPRESSED_FRAME_SIZE, MAX_FRAME_SIZE, Shape, measure
from appbundle.bundle.service_rules import check_services
from appbundle.bundle.setting_rules import check_references, check_settings
from appbundle.bundle.statement import RELEASE_LIMIT
from appbundle.bundle.text import is_harmless
from appbundle.errors import ManifestError, UsageError
from appbundle.layout import BUNDLE_DIR
from appbundle.names import OWN, escape, parse_app_name, parse_version

MAX_ENTRIES = 250_000
MAX_DEPTH = 64
MAX_PATH = 4095
MAX_PART = 255
MAX_CONTENT = 1 << 46
"""Bytes of one file, and of a whole payload: 64 TiB."""
MAX_CREATED = 8**11 - 1
"""Seconds since the epoch that a tar header can hold: the year 2242."""
EMPTY_SHA256 = hashlib.sha256(b"").hexdigest()

_DIGEST = re.compile(r"[0-9a-f]{64}", re.ASCII)
_ARCHITECTURE = re.compile(r"[a-z0-9_]{1,32}", re.ASCII)
_BASE = re.compile(r"(?:[a-z0-9][a-z0-9.-]{0,62})?", re.ASCII)
_KERNEL = re.compile(r"(?:[0-9]{1,4}\.[0-9]{1,4}(?:\.[0-9]{1,6})?)?", re.ASCII)
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}", re.ASCII)

_Struct = TypeVar("_Struct", bound=msgspec.Struct)


def encode_manifest(manifest: Manifest) -> bytes:
    """Write a manifest in its one canonical encoding."""
    return msgspec.json.encode(_share_defaults(manifest))


def _share_defaults(struct: _Struct) -> _Struct:
    """Put the default objects themselves where equal ones are: msgspec leaves out only those."""
    defaults = struct.__struct_defaults__
    names = struct.__struct_fields__
    changed: dict[str, object] = {}
    for at, name in enumerate(names, len(defaults) - len(names)):
        value = getattr(struct, name)
        if at >= 0 and value == defaults[at]:
            changed[name] = defaults[at]
        elif isinstance(value, msgspec.Struct):
            changed[name] = _share_defaults(value)
        # The long tables hold structures without defaults: their first tells for all.
        elif isinstance(value, tuple) and value and getattr(value[0], "__struct_defaults__", ()):
            changed[name] = tuple(map(_share_defaults, value))
    return msgspec.structs.replace(struct, **changed)


def read_manifest(raw: bytes) -> Manifest:
    """Read an authenticated manifest and check every rule.

    Raises:
        ManifestError: It is not the canonical encoding of a manifest that keeps all rules.
    """
    try:
        manifest = msgspec.json.decode(raw, type=Manifest)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ManifestError(f"the manifest is malformed: {escape(str(error))}") from error
    if encode_manifest(manifest) != raw:
        raise ManifestError(
            "the manifest is not in canonical form (a repeated key, or odd spelling)"
        )
    check_manifest(manifest)
    return manifest


def check_manifest(manifest: Manifest) -> Shape:
    """Check every rule of a manifest, whoever made it.

    Returns:
        The shape of its payload.

    Raises:
        ManifestError: The first rule that is broken, and by which entry.
    """
    _check_description(manifest)
    if manifest.run is not None:
        _check_run(manifest.run)
    check_services(manifest.name, manifest.services)
    check_settings(manifest.settings, manifest.templates, manifest.tasks, manifest.rollback)
    check_references(
        manifest.services,
        manifest.settings,
        manifest.templates,
        manifest.tasks,
        {file.path for file in manifest.files} if manifest.templates else (),
    )
    _check_tree(manifest)
    check_commands(manifest)
    return _check_payload(manifest)


def _refuse(rule: str, entry: str) -> ManifestError:
    return ManifestError(f"{rule}: {escape(entry)}")


def _check_description(manifest: Manifest) -> None:
    try:
        parse_app_name(manifest.name)
        parse_version(manifest.version)
    except UsageError as error:
        raise ManifestError(error.what) from error
    if not 0 <= manifest.release < RELEASE_LIMIT:
        raise _refuse("the release is not a number from 0 to 2^53", str(manifest.release))
    if not 0 <= manifest.created <= MAX_CREATED:
        raise _refuse("the time of creation is out of range", str(manifest.created))
    acts = ("run", "commands", "services", "settings", "tasks", "rollback")
    if manifest.name == OWN and any(getattr(manifest, each) for each in acts):
        raise _refuse("appb itself has nothing to run, to set or to migrate", manifest.name)
    for text in (manifest.summary, manifest.licence, manifest.homepage, manifest.source):
        if len(text) > 1000 or not is_harmless(text):
            raise _refuse("a description is too long or has control characters", text)
    if not (manifest.previous == "" or _DIGEST.fullmatch(manifest.previous)):
        raise _refuse("previous is not a SHA-256", manifest.previous)
    if len(manifest.compression) > 100 or not is_harmless(manifest.compression):
        raise _refuse("the name of the compression is malformed", manifest.compression)
    requires = manifest.requires
    for pattern, text in (
        (_ARCHITECTURE, requires.architecture),
        (_BASE, requires.base),
        (_KERNEL, requires.kernel),
    ):
        if not pattern.fullmatch(text):
            raise _refuse("a requirement is malformed", text)


def _check_run(run: Run) -> None:
    if not run.argv or not run.argv[0].startswith("/"):
        raise ManifestError("the command to run is not an absolute path")
    if not run.directory.startswith("/"):
        raise _refuse("the working directory is not absolute", run.directory)
    for text in (*run.argv, run.directory, *run.environment.values()):
        if len(text) > 32_768 or not is_harmless(text):
            raise _refuse("the command to run has control characters or is too long", text)
    for name in run.environment:
        if not _VARIABLE.fullmatch(name):
            raise _refuse("not the name of an environment variable", name)


def _check_tree(manifest: Manifest) -> None:
    """Names, parents, order, uniqueness; the parent of everything must be a listed directory."""
    directories = manifest.directories
    count = len(directories) + len(manifest.links) + len(manifest.files)
    if count > MAX_ENTRIES:
        raise _refuse(f"more than {MAX_ENTRIES} entries", str(count))
    known = {""}
    for path in directories:
        _check_path(path, known)
        if path.count("/") >= MAX_DEPTH:
            raise _refuse(f"deeper than {MAX_DEPTH} directories", path)
        known.add(path)
    _check_sorted(directories)
    link_paths = [link.path for link in manifest.links]
    _check_sorted(link_paths)
    for path in link_paths:
        _check_path(path, known)
    _check_files(manifest.files, known, manifest.release)
    paths = {*directories, *link_paths, *(file.path for file in manifest.files)}
    if len(paths) != count:
        raise _refuse("a path stands twice", _first_duplicate(manifest))
    if BUNDLE_DIR in paths:
        raise _refuse("the name is reserved", BUNDLE_DIR)
    _check_links(manifest)


def _check_path(path: str, directories: set[str]) -> None:
    parent, _, name = path.rpartition("/")
    if path.startswith("/"):
        raise _refuse("an absolute path", path)
    if name in ("", ".", ".."):
        raise _refuse("a path with an empty, . or .. part", path)
    if not is_harmless(name):
        raise _refuse("a name with control or bidirectional characters", path)
    if len(name.encode()) > MAX_PART or len(path.encode()) > MAX_PATH:
        raise _refuse(f"a name over {MAX_PART} or a path over {MAX_PATH} bytes", path)
    if parent not in directories:
        raise _refuse("not below a directory of the bundle", path)


def _check_files(files: Sequence[File], directories: set[str], release: int) -> None:
    previous = (-1, "")
    is_digest = _DIGEST.fullmatch
    for file in files:
        path = file.path
        parent, _, name = path.rpartition("/")
        # The common case in one expression; whatever fails it gets its exact refusal.
        if not (
            parent in directories
            and name not in ("", ".", "..")
            and path.isascii()
            and name.isprintable()
            and len(name) <= MAX_PART
            and len(path) <= MAX_PATH
        ) or path.startswith("/"):
            _check_path(path, directories)
        if not 0 <= file.size <= MAX_CONTENT:
            raise _refuse("a size out of range", path)
        if not is_digest(file.sha256) or (file.size == 0) != (file.sha256 == EMPTY_SHA256):
            raise _refuse("not the SHA-256 of a content of this size", path)
        if not 0 <= file.since <= release:
            raise _refuse("changed in a release after this one", path)
        key = (file.since, path)
        if key <= previous:
            raise _refuse("out of order, or a path stands twice", path)
        previous = key


def _check_sorted(paths: Sequence[str]) -> None:
    for before, after in zip(paths, paths[1:], strict=False):
        if after <= before:
            raise _refuse("out of order, or a path stands twice", after)


def _first_duplicate(manifest: Manifest) -> str:
    seen: set[str] = set()
    everything: Iterable[str] = (
        *manifest.directories,
        *(link.path for link in manifest.links),
        *(file.path for file in manifest.files),
    )
    for path in everything:
        if path in seen:
            return path
        seen.add(path)
    return ""


def _check_links(manifest: Manifest) -> None:
    targets = {link.path: link.target for link in manifest.links}
    _check_sorted(manifest.outward)
    outward = set(manifest.outward)
    for path in manifest.outward:
        if path not in targets:
            raise _refuse("declared as an outward link, but is none", path)
    for link in manifest.links:
        if not link.target or len(link.target.encode()) > MAX_PATH or not is_harmless(link.target):
            raise _refuse("a link's target is empty, too long or has control characters", link.path)
        if link.path not in outward and link_leaves(link, targets):
            raise _refuse("a link that leaves the bundle and is not declared", link.path)


def link_leaves(link: Link, targets: dict[str, str]) -> bool:
    """Whether following a link can lead out of the bundle, also by way of other links.

    Args:
        link: Which one.
        targets: Every link of the bundle, path to target.

    Returns:
        True as well if it takes more hops than a kernel follows.
    """
    parent, _, _ = link.path.rpartition("/")
    return leads_to(link.target, targets, base=parent) is None


def _check_payload(manifest: Manifest) -> Shape:
    # Each size is in range, but so many of them together may be past what 64 bits hold.
    if sum(file.size for file in manifest.files) > MAX_CONTENT:
        raise ManifestError(f"the contents are larger than {MAX_CONTENT} bytes together")
    shape = measure(manifest.directories, manifest.links, manifest.files)
    if shape.size > MAX_CONTENT:
        raise _refuse("the payload is too large", str(shape.size))
    total = 0
    for index, frame in enumerate(manifest.frames):
        _check_frame(index, frame)
        total += frame.size
    if total != shape.size:
        raise ManifestError(f"frames of {total} bytes in all for a payload of {shape.size}")
    return shape


def _check_frame(index: int, frame: Frame) -> None:
    if not 0 < frame.size <= MAX_FRAME_SIZE:
        raise _refuse("a frame's size is out of range", str(index))
    if not 0 < frame.compressed_size <= MAX_COMPRESSED_FRAME_SIZE:
        raise _refuse("a frame's compressed size is out of range", str(index))
    if not _DIGEST.fullmatch(frame.sha256):
        raise _refuse("a frame's digest is no SHA-256", str(index))
