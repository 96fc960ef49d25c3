"""What every refusal owes: its kind and code, one line that names rule and entry, no trace."""

from collections.abc import Callable
from pathlib import Path

import pytest

from appbundle.cli.session import print_error
from appbundle.errors import AppbError
from tests.bundles import Node

EXIT_CODES = {
    "error": 1,
    "usage": 2,
    "not-found": 10,
    "not-trusted": 20,
    "unsigned": 20,
    "unknown-key": 20,
    "key-not-allowed": 20,
    "bad-signature": 20,
    "expired-key": 20,
    "too-few-signatures": 20,
    "downgrade": 20,
    "corrupt": 21,
    "bad-manifest": 21,
    "no-space": 22,
    "conflict": 1,
    "unsupported": 1,
}


def assert_refused(
    node: Node,
    path: Path,
    kind: str,
    *words: str,
    capsys: pytest.CaptureFixture[str],
    act: Callable[[Path], object] | None = None,
) -> AppbError:
    """Try to install a bundle (or do something else with it) and check the refusal wholly.

    Args:
        kind: The error's.
        words: What its one line must contain.
        act: What to do instead of installing.
    """
    before = node.snapshot() | {"bundle": path.read_bytes() if path.is_file() else None}
    with pytest.raises(AppbError) as caught:
        (act or node.install)(path)
    after = node.snapshot() | {"bundle": path.read_bytes() if path.is_file() else None}
    assert without_empty_homes(after, node) == without_empty_homes(before, node)
    error = caught.value
    assert (error.kind, error.exit_code) == (kind, EXIT_CODES[kind]), error.what
    for word in words:
        assert word in error.what
    assert_printed_safely(error, capsys)
    return error


def without_empty_homes(picture: dict[str, object], node: Node) -> dict[str, object]:
    """Leave out appb's own directories where nothing is in them: the first refusal makes them."""
    layout = node.layout
    own = {
        str(home)
        for home in (
            *(layout.apps, layout.private, layout.stage, layout.trash),
            *(layout.objects, layout.pins, layout.releases, layout.generations),
        )
    }
    held = [path for path in picture if path not in own]
    return {
        path: what
        for path, what in picture.items()
        if path not in own or any(other.startswith(f"{path}/") for other in held)
    }


def assert_printed_safely(error: AppbError, capsys: pytest.CaptureFixture[str]) -> None:
    """The error is printed as one line each of error, kept and hint, all of them printable."""
    capsys.readouterr()
    print_error(error, as_json=False)
    lines = capsys.readouterr().err.rstrip("\n").split("\n")
    assert [line.split(": ")[0] for line in lines] == ["error", "kept", "hint"][: len(lines)]
    assert all(line.isprintable() for line in lines), lines
