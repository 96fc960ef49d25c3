"""What a manifest may say; tests/hostile has the attacks, this the rules' own corners."""

import hashlib

import msgspec
import pytest

from appbundle.bundle.manifest import File, Frame, Link, Manifest, Requires, Run
from appbundle.bundle.payload import cut, measure
from appbundle.bundle.rules import encode_manifest, link_leaves, read_manifest
from appbundle.bundle.settings import Setting
from appbundle.errors import ManifestError
from appbundle.names import Digest


def digest(content: bytes) -> Digest:
    """SHA-256."""
    return Digest(hashlib.sha256(content).hexdigest())


def make(**changes: object) -> Manifest:
    """A correct manifest with two files and a link, changed."""
    files = (
        File("bin/web", 3, digest(b"web"), True, 1),
        File("bin/zzz", 0, digest(b""), False, 1),
    )
    links = (Link("bin/start", "web"),)
    shape = measure(("bin",), links, files)
    frames = tuple(Frame(50, size, digest(b"frame")) for size in cut(shape, files))
    manifest = Manifest(
        format=1,
        name="web",
        version="1.0",
        release=1,
        directories=("bin",),
        links=links,
        files=files,
        frames=frames,
    )
    return msgspec.structs.replace(manifest, **changes)


def test_correct_manifest_is_read() -> None:
    """The control: what is right passes, and reads back."""
    manifest = make()
    assert read_manifest(encode_manifest(manifest)) == manifest


def test_equal_manifests_have_equal_bytes() -> None:
    """What says a default aloud is encoded as what does not say it."""
    plain = make(run=Run(argv=("/bin/web",)), requires=Requires(kernel="5.10"))
    aloud = make(
        run=Run(argv=("/bin/web",), directory="".join(["/"]), network="host", environment={}),
        requires=Requires(kernel="5.10", architecture="".join(["a", "ny"])),
        summary="",
    )
    assert encode_manifest(aloud) == encode_manifest(plain)


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"name": "Web"}, "not an app's name"),
        ({"name": "appbundle"}, "not an app's name"),
        ({"name": "appb", "run": Run(argv=("/bin/web",))}, "appb itself"),
        ({"name": "appb", "settings": (Setting(name="port"),)}, "appb itself"),
        ({"version": "../1"}, "not a version"),
        ({"release": -1}, "release"),
        ({"created": -1}, "time of creation"),
        ({"created": 1 << 40}, "time of creation"),
        ({"summary": "a\x1b[31m"}, "control characters"),
        ({"previous": "A" * 64}, "previous"),
        ({"outward": ("bin/other",)}, "is none"),
        ({"frames": ()}, "frames of 0 bytes"),
        ({"frames": (Frame(0, 3, digest(b"")),)}, "compressed size"),
        ({"frames": (Frame(1, 5 << 20, digest(b"")),)}, "size is out of range"),
        ({"directories": ()}, "not below a directory"),
        ({"directories": ("bin", "bin")}, "twice"),
    ],
)
def test_broken_rules_are_named(changes: dict[str, object], rule: str) -> None:
    """Each refusal names its rule."""
    with pytest.raises(ManifestError, match=rule):
        read_manifest(encode_manifest(make(**changes)))


@pytest.mark.parametrize(
    "spell",
    [
        lambda raw: raw.replace(b'"release":1', b'"release": 1'),
        lambda raw: raw.replace(b'"release":1', b'"release":1,"release":1'),
        lambda raw: raw.replace(b'"release":1', b'"release":1.0'),
        lambda raw: raw.replace(b'"release":1', b'"release":NaN'),
        lambda raw: raw.replace(b'"name":"web"', b'"name":"\\u0077eb"'),
        lambda raw: raw[:-1] + b',"surprise":1}',
        lambda raw: raw.replace(b',"directories"', b',"requires":{},"directories"'),
        lambda raw: raw.replace(b',"dir', b',"requires":{"architecture":"any"},"dir'),
        lambda raw: raw.replace(b',"dir', b',"run":{"argv":["/a"],"directory":"/"},"dir'),
        lambda raw: raw + b" ",
        lambda raw: b"\xef\xbb\xbf" + raw,
        lambda raw: raw.replace(b'"summary"', b'"Summary"') + b"\n",
        lambda raw: b"[" * 100_000,
    ],
)
def test_other_spellings_are_refused(spell: object) -> None:
    """A manifest has one encoding."""
    raw = encode_manifest(make())
    changed = spell(raw)  # type: ignore[operator]
    assert changed != raw
    with pytest.raises(ManifestError):
        read_manifest(changed)


@pytest.mark.parametrize(
    ("path", "target", "leaves"),
    [
        ("a", "b", False),
        ("a", "/b", True),
        ("a", "../b", True),
        ("d/a", "../b", False),
        ("d/a", "../../b", True),
        ("d/a", "./x/../../b", False),
        ("up", "d/e/..", False),
        ("a", "loop", True),
        ("a", "shallow/../../x", True),
        ("a", "deep/../../x", False),
    ],
)
def test_links_are_followed_as_a_kernel_does(path: str, target: str, leaves: bool) -> None:
    """`..` counts from where a link has led to, not from how the path reads."""
    targets = {"loop": "loop", "shallow": "d", "deep": "d/e/f", path: target}
    assert link_leaves(Link(path, target), targets) is leaves
