"""Launchers of commands: a shell reads them as they are meant, wherever the node lies."""

import subprocess
from pathlib import Path

import pytest

from appbundle.names import AppName
from appbundle.store import commands

WORDS = ("/bin/web", "a b", "'", '"$(echo no)`echo no`', "$root", "\\", "*", "-x", "")
GIVEN = ("--", "it's", '"', "$HOME", "a  b", "*", "", "-n")


@pytest.mark.parametrize("below", [False, True])
@pytest.mark.parametrize("by_link", [False, True])
def test_every_word_arrives_as_it_is(tmp_path: Path, below: bool, by_link: bool) -> None:
    """Also from a directory with an odd name, and by a link from elsewhere."""
    root = tmp_path / "an odd 'root' $(x)"
    directory = root / "apps/.appb/generations/7"
    directory.mkdir(parents=True)
    appb = root / "odd path" / "ap'pb"
    appb.parent.mkdir()
    appb.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\nexit 7\n')
    appb.chmod(0o755)
    start = ["odd path/ap'pb" if below else str(appb), "-m", "a b"]
    commands.write(directory, 7, {AppName("web"): {"go": WORDS}}, start)
    launcher = directory / "bin/go"
    if by_link:
        launcher = tmp_path / "link"
        launcher.symlink_to(directory / "bin/go")
    done = subprocess.run(
        [launcher, *GIVEN], capture_output=True, text=True, cwd="/", env={"PATH": "/usr/bin:/bin"}
    )
    own = ["-m", "a b", "--root", f"{root}/", "run", "--no-sockets", "--generation", "7"]
    assert done.stdout.split("\n")[:-1] == [*own, "web", "--", *WORDS, *GIVEN]
    assert (done.returncode, done.stderr) == (7, "")
