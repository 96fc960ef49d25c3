"""The two files that decide whom a node trusts."""

import os
from pathlib import Path

import pytest

from appbundle.errors import CorruptError, UnsupportedError, UsageError
from appbundle.layout import Layout
from appbundle.names import AppName
from appbundle.store import settings


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    """A node that trusts one line."""
    layout = Layout(tmp_path)
    settings.write_allowed_signers(layout, "one line\n")
    return layout


def test_own_file_counts(layout: Layout) -> None:
    """The control: what its own user wrote is read."""
    assert settings.read_allowed_signers(layout) == "one line\n"


@pytest.mark.parametrize("mode", [0o664, 0o646])
def test_file_that_others_may_write_decides_nothing(layout: Layout, mode: int) -> None:
    """A list of trusted keys that a group or everybody may write to is refused."""
    layout.allowed_signers.chmod(mode)
    with pytest.raises(UnsupportedError, match="writable by others"):
        settings.read_allowed_signers(layout)


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: chown")
def test_file_of_another_user_decides_nothing(layout: Layout) -> None:
    """A list of trusted keys that another user owns is refused: its owner may always write."""
    os.chown(layout.allowed_signers, 65534, 65534)
    with pytest.raises(UnsupportedError, match="belongs to another user"):
        settings.read_allowed_signers(layout)


@pytest.mark.parametrize("mode", [0o775, 0o757])
def test_directory_that_others_may_write_to_decides_nothing(layout: Layout, mode: int) -> None:
    """Whoever may write to /etc/appbundle could replace the list, so it is not read."""
    layout.settings.chmod(mode)
    with pytest.raises(UnsupportedError, match="writable by others"):
        settings.read_allowed_signers(layout)


def test_node_without_settings_has_the_documented_ones(tmp_path: Path) -> None:
    """Without files nobody is trusted, one key is enough, and gc keeps 3 versions and 30 days."""
    assert settings.read_allowed_signers(Layout(tmp_path)) == ""
    found = settings.read_node_settings(Layout(tmp_path))
    assert found.threshold == ()
    assert (found.retention.keep, found.retention.older_than_days) == (3, 30)


@pytest.mark.parametrize(
    "text",
    [
        "[retention",
        "[retention]\nkeeep = 3",
        "[retention]\nkeep = '3'",
        "[retention]\nkeep = -1",
        "[retention]\nolder_than_days = -1",
        "[[threshold]]\napps = '*'",
        "[[threshold]]\napps = '*'\nkeys = 0",
        "verify = false",
        "\udcff",
    ],
)
def test_mistake_in_node_toml_is_no_default(layout: Layout, text: str) -> None:
    """A misspelt or senseless setting is an error that names the file, and never passed over."""
    layout.node_settings.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(UsageError, match=r"node\.toml"):
        settings.read_node_settings(layout)


def test_text_of_others_survives(layout: Layout) -> None:
    """Comments in any encoding stay byte for byte when the list is written again."""
    raw = b"# J\xfcrgen's key\n"
    layout.allowed_signers.write_bytes(raw)
    settings.write_allowed_signers(layout, settings.read_allowed_signers(layout))
    assert layout.allowed_signers.read_bytes() == raw


@pytest.mark.parametrize("text", ["", "x", "1.5"])
def test_damaged_release_floor_lets_nothing_in(layout: Layout, text: str) -> None:
    """Where the highest accepted release cannot be read, it is not taken for none."""
    layout.releases.mkdir(parents=True)
    (layout.releases / "web").write_text(text)
    with pytest.raises(CorruptError, match="releases/web"):
        settings.accepted_release(layout, AppName("web"))
