"""The two files that decide whom a node trusts."""

import os
from pathlib import Path

import pytest

from appbundle.errors import UnsupportedError
from appbundle.layout import Layout
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
