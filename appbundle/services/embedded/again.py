"""Stop and start programs of supervisord, whatever becomes of the caller: ROOT NAME=TIMEOUT_S..."""

import sys
from pathlib import Path

from appbundle.layout import Layout
from appbundle.services.embedded.places import Places
from appbundle.services.embedded.supervisord import Supervisord


def main() -> None:
    """Do it; any error shows as the exit status."""
    root, *words = sys.argv[1:]
    programs = {name: float(timeout_s) for name, _, timeout_s in (w.partition("=") for w in words)}
    control = Supervisord(Places(Layout(Path(root))))
    control.down(programs)
    for name in programs:
        control.up(name)


if __name__ == "__main__":
    main()
