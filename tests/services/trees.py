"""A small Debian 13 to boot: its systemd is 257, and its own Python runs appb.

Made by mmdebstrap from the archives that this machine's apt asks, of another suite, and kept in
`out/`. Its processes find appb in this checkout, and what appb needs among the tree's packages.
"""

import hashlib
import os
import re
import subprocess
import sys
import tempfile
from importlib import metadata
from pathlib import Path

from appbundle.build.sources.archives import find_archives

REPOSITORY = Path(__file__).resolve().parents[2]
SUITE, PYTHON = "trixie", "3.13"
PACKAGES = ("curl", "dbus", "procps", "python3", "systemd", "systemd-sysv", "util-linux")
_SITE = f"usr/local/lib/python{PYTHON}/dist-packages"


def trixie() -> Path:
    """Give the tree; it takes a minute or two to make, and is made again if what it has differs."""
    needed = [each for each in metadata.requires("appbundle") or () if "extra ==" not in each]
    content = "\n".join((*PACKAGES, *needed, str(REPOSITORY)))
    tree = REPOSITORY / f"out/trees/{SUITE}-{hashlib.sha256(content.encode()).hexdigest()[:12]}"
    if not tree.exists():
        tree.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=tree.parent) as scratch:
            made = Path(scratch) / "tree"
            _install_system(made, _archives(Path(scratch)))
            _install_needed(made, needed)
            os.rename(made, tree)
    return tree


def _archives(scratch: Path) -> list[Path]:
    """This machine's apt sources, as if it were of the other suite."""
    release = Path("/etc/os-release").read_text()
    (own,) = re.findall(r"^VERSION_CODENAME=(\w+)$", release, re.MULTILINE)
    written = []
    for ending, text in find_archives(Path("/etc/apt"), own).items():
        path = scratch / f"archives{ending}"
        path.write_text(re.sub(rf"\b{own}\b", SUITE, text))
        written.append(path)
    return written


def _install_system(tree: Path, archives: list[Path]) -> None:
    _run(
        *("mmdebstrap", "--mode=root", "--format=directory", "--variant=essential"),
        *("--skip=output/dev", f"--include={','.join(PACKAGES)}"),
        *(SUITE, str(tree), *map(str, archives)),
    )


def _install_needed(tree: Path, needed: list[str]) -> None:
    _run(
        *(sys.executable, "-m", "pip", "install", "--disable-pip-version-check"),
        *(f"--target={tree / _SITE}", f"--python-version={PYTHON}", "--only-binary=:all:"),
        *needed,
    )
    (tree / _SITE / "checkout.pth").write_text(f"{REPOSITORY}\n")


def _run(*argv: str) -> None:
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{argv[0]}: {done.stdout[-2000:]} {done.stderr[-4000:]}"
