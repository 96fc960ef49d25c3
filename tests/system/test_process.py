"""Programs that are started before their input is known."""

import os
import sys

import pytest

from appbundle.system import process

_ECHO = "import sys; sys.stdout.write(sys.stdin.read().upper())"


def _start(code: str) -> process.Waiting:
    return process.start([sys.executable, "-c", code], environment={"PATH": os.defpath})


def test_started_early_reads_what_it_is_given_later() -> None:
    """Its input is what `finish` gives, whole, however much that is."""
    given = b"abc" * 100_000
    assert _start(_ECHO).finish(given, timeout_s=60).stdout == given.upper()


def test_started_early_and_failing_is_an_error() -> None:
    """A program that has ended before its input came has failed with its own status."""
    waiting = _start("import sys; sys.exit(3)")
    waiting.child.wait()
    with pytest.raises(process.ProgramError) as caught:
        waiting.finish(b"x" * 1_000_000, timeout_s=60)
    assert caught.value.status == 3


def test_started_early_and_not_needed_is_ended() -> None:
    """What nobody finishes is gone, and ending twice does nothing."""
    waiting = _start("import time; time.sleep(3600)")
    waiting.end()
    waiting.end()
    assert waiting.child.returncode is not None
