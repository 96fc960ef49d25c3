"""The tuf-conformance suite, where somebody has a copy of it: it is in no package registry.

It is github:theupdateframework/tuf-conformance, and needs the program faketime:

    TUF_CONFORMANCE=DIR .venv/bin/python -m pytest tests/repository/test_conformance.py
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SUITE = os.environ.get("TUF_CONFORMANCE", "")
CLIENT = f"{sys.executable} -m tests.repository.conformance_client"


@pytest.mark.slow
@pytest.mark.skipif(not SUITE, reason="TUF_CONFORMANCE names no copy of the suite")
def test_our_client_conforms(tmp_path: Path) -> None:
    """Every case of the suite passes."""
    program = tmp_path / "client"
    top = Path(__file__).parents[2]
    program.write_text(f'#!/bin/sh\ncd {top} && exec {CLIENT} "$@"\n')
    program.chmod(0o755)
    command = [sys.executable, "-m", "pytest", "tuf_conformance", "--entrypoint", str(program)]
    done = subprocess.run(command, cwd=SUITE, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-4000:]
