"""How what outlasts this process starts appb: units, timers, services of a supervisor."""

from __future__ import annotations

import sys
from pathlib import Path

from appbundle.layout import Layout
from appbundle.names import OWN

_PYTHON = "/usr/lib/appb/python"
"""In a bundle of appb: what starts its Python, and what that takes for itself."""
_PROGRAM = "usr/bin/appb"
OWN_PROGRAM = f"apps/{OWN}/current/{_PROGRAM}"
"""The appb that is an app of a node, below its root."""


def lasting_command(layout: Layout) -> list[str]:
    """How a command line begins that stays right when appb is upgraded or goes back.

    Helpers of this process are started by `sys.executable` instead: they are of its version.

    Args:
        layout: The node. If this appb is from a bundle, its current appb is named, or without one
            the tree that this one runs from.
    """
    if not sys.executable.endswith(_PYTHON):
        return [sys.executable, "-I", "-m", "appbundle"]
    current = layout.root / OWN_PROGRAM
    own = Path(sys.executable.removesuffix(_PYTHON)) / _PROGRAM
    return [str(current if current.exists() else own)]
