"""A directory, a home and a node for a page's examples.

A page says what is there already, so that not every page must repeat the first steps:

    <!-- given: bundles -->   team.key, team.key.pub, hello-1.0.bundle, hello-2.0.bundle; the node
                              trusts the key for hello
    <!-- given: node -->      the same, and hello 1.0 and then 2.0 were installed
"""

import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]

GIVEN = {
    "": (),
    "bundles": (
        "appb key new --no-passphrase --comment team team.key",
        "appb build bundles/hello --release 1.0 --key team.key",
        "appb build bundles/hello --key team.key --previous hello-1.0.bundle",
        "appb trust add team.key.pub --for hello",
    ),
    "node": ("appb install hello-1.0.bundle", "appb install hello-2.0.bundle"),
}
"""The commands that make each of the beginnings out of the one before."""


@dataclass(frozen=True, slots=True)
class Place:
    """A directory with `work`, `home` and `node` in it."""

    base: Path

    @property
    def work(self) -> Path:
        """Where commands start."""
        return self.base / "work"

    @property
    def node(self) -> Path:
        """The root of the node."""
        return self.base / "node"

    @property
    def environment(self) -> dict[str, str]:
        """All that commands get."""
        return {
            "APPB_ROOT": str(self.node),
            "HOME": str(self.base / "home"),
            "LANG": "C.UTF-8",
            "PATH": f"{Path(sys.executable).parent}:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "TZ": "UTC",
        }

    def make(self) -> None:
        """Make the directories, with the recipe of hello."""
        for path in (self.work, self.node, self.base / "home"):
            path.mkdir(parents=True)
        shutil.copytree(REPOSITORY / "bundles/hello", self.work / "bundles/hello")

    def run(self, *lines: str) -> None:
        """Run shell commands that must succeed."""
        for line in lines:
            subprocess.run(
                line, shell=True, cwd=self.work, env=self.environment, check=True, timeout=60
            )


def copy(source: Place, target: Place) -> None:
    """Copy a place; hard links of its node stay hard links."""
    subprocess.run(["cp", "-a", str(source.base), str(target.base)], check=True)
