"""Prints, as JSON, which modules a script imports: by paths in a tree, the files that hold them.

Usage: find_modules.py SCRIPT SCRATCH      bytecode is made in SCRATCH

It is valid whatever time its source has: in a bundle, times are fixed.
"""

import runpy
import sys
from importlib.util import cache_from_source
from pathlib import Path


def main(script: str, scratch: Path) -> None:
    """Import what the script imports, and look at what that was."""
    runpy.run_path(script, run_name="imported")
    files = {getattr(each, "__file__", None) for each in list(sys.modules.values())}
    found = {path: path for path in sorted(filter(None, files - {script, __file__}))}
    # Only now: they are no modules of the script's.
    import json
    import py_compile

    for number, source in enumerate([path for path in found if path.endswith(".py")]):
        made = str(scratch / f"{number}.pyc")
        mode = py_compile.PycInvalidationMode.UNCHECKED_HASH
        py_compile.compile(source, made, source, doraise=True, invalidation_mode=mode)
        found[cache_from_source(source)] = made
    json.dump({path.lstrip("/"): file for path, file in found.items()}, sys.stdout)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
