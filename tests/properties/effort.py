"""How many examples a property is tried with."""

import os

THOROUGH = os.environ.get("APPB_PROPERTIES") == "thorough"


def examples(number: int) -> int:
    """So many by default, and fifty times as many when asked to be thorough."""
    return number * 50 if THOROUGH else number
