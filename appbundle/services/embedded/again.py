"""Stop and start a program of supervisord, whatever becomes of the caller: ROOT NAME TIMEOUT_S."""

import sys
from pathlib import Path

from appbundle.layout import Layout
from appbundle.services.embedded.places import Places
from appbundle.services.embedded.supervisord import Supervisord


def main() -> None:
    """Do it; any error shows as the exit status."""
    root, name, timeout_s = sys.argv[1:]
    control = Supervisord(Places(Layout(Path(root))))
    control.down(name, timeout_s=float(timeout_s))
    control.up(name)


if __name__ == "__main__":
    main()
