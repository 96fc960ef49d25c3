"""What commands that verify nothing pay for trust."""

import subprocess
import sys

HEAVY = {"cryptography", "bcrypt", "zstandard", "datetime"}


def test_importing_costs_nothing_heavy() -> None:
    """Importing the room loads neither cryptography nor a decompressor."""
    code = (
        "import sys; before = set(sys.modules); import appbundle.trust.verify;"
        "print(*{name.partition('.')[0] for name in set(sys.modules) - before})"
    )
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert not HEAVY & set(loaded.stdout.split())
