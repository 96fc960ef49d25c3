"""What a manifest may say of commands that people call."""

import pytest

from appbundle.bundle.manifest import Manifest
from appbundle.bundle.rules import encode_manifest, read_manifest
from appbundle.bundle.services import Service
from appbundle.errors import ManifestError
from tests.bundles import Entry, File, Link, draft

Commands = dict[str, tuple[str, ...]]

TREE: dict[str, Entry] = {
    "usr/bin/web": File("#!/bin/sh\n", executable=True),
    "usr/bin/start": Link("web"),
    "usr/share/page": File("page"),
    "bin": Link("usr/bin"),
    "away": Link("/usr/bin/web"),
}
GOOD: Commands = {
    "0-web.d_x": ("/usr/bin/web",),
    "by-link": ("/bin/start", "--quiet", "a b", "'\"$(x)`", "", "é"),
    "web": ("/usr/bin/web", "x" * 1024),
    "w" * 64: ("/usr/bin/web", *["x"] * 31),
}
WRONG_NAMES = (
    *("", ".web", "-web", "_web", "Web", "a/b", "..", "wéb"),
    *("a b", "a\n", "$x", "`x`", "w" * 65, "appb"),
)
WRONG: list[Commands] = [
    *[Commands({name: ("/usr/bin/web",)}) for name in WRONG_NAMES],
    {"web": ()},
    {"web": ("",)},
    {"web": ("web",)},
    {"web": ("usr/bin/web",)},
    {"web": ("/usr/share/page",)},
    {"web": ("/usr/bin",)},
    {"web": ("/usr/bin/other",)},
    {"web": ("/away",)},
    {"web": ("/",)},
    {"web": ("//usr/bin/web",)},
    {"web": ("/usr/./bin/web",)},
    {"web": ("/usr/../usr/bin/web",)},
    {"web": ("/../usr/bin/web",)},
    {"web": ("/usr/bin/web/",)},
    {"web": ("/usr/bin/web", "a\nb")},
    {"web": ("/usr/bin/web", "a\u202eb")},
    {"web": ("/usr/bin/web", "x" * 1025)},
    {"web": ("/usr/bin/web", "{{ port }}")},
    {"web": ("/usr/bin/web", *["x"] * 32)},
    {"web": ("/usr/bin/web",), "a": ("/usr/bin/web",)},
    {f"web{at:02}": ("/usr/bin/web",) for at in range(65)},
]


def read(commands: Commands, *services: str) -> Manifest:
    """Read a manifest with these commands, and services of these names."""
    declared = tuple(Service(name=name, argv=("/usr/bin/web",)) for name in services)
    made = draft(TREE).change(commands=commands, services=declared)
    return read_manifest(encode_manifest(made.manifest))


@pytest.mark.parametrize("services", [(), ("any",), ("other", "web")])
def test_commands_are_read(services: tuple[str, ...]) -> None:
    """Names are file names; a program may be reached by links of the bundle."""
    assert read(GOOD, *services).commands == GOOD


@pytest.mark.parametrize("commands", WRONG)
def test_wrong_command_is_refused(commands: Commands) -> None:
    """A name that is none, a program that is not there, too much, or what a shell would misread."""
    with pytest.raises(ManifestError, match="command"):
        read(commands)


def test_confinement_of_commands_is_said() -> None:
    """Of several services one must be the one that commands are confined as."""
    with pytest.raises(ManifestError, match="named as the app"):
        read(GOOD, "one", "two")


def test_appb_exports_nothing() -> None:
    """appb itself is not confined, so it has no commands that are."""
    made = draft(TREE, name="appb").change(commands=GOOD)
    with pytest.raises(ManifestError, match="appb itself"):
        read_manifest(encode_manifest(made.manifest))


def test_manifest_without_commands_is_as_before() -> None:
    """Nothing is said of commands where there are none."""
    assert b"commands" not in encode_manifest(draft(TREE).manifest)
