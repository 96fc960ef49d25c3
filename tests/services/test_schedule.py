"""Upgrades that a node makes by itself: only where that was asked for, and only in windows."""

import pytest

from tests.services.booted import wait_until
from tests.services.conftest import Fleet

pytestmark = [pytest.mark.root, pytest.mark.slow]

TIMER = "appb-upgrade.timer"


def test_node_upgrades_in_its_windows(fleet: Fleet) -> None:
    """A timer that counts at once and after a boot runs an upgrade, until it is told to stop."""
    assert fleet.node.systemctl("is-enabled", TIMER, check=False) != "enabled"
    fleet.node.appb("upgrade", "--schedule", "*:*:0/2", "--window", "0")
    assert fleet.node.systemctl("is-enabled", TIMER) == "enabled"
    ran = ("show", "--property=ExecMainStartTimestampMonotonic,Result", "appb-upgrade.service")
    assert wait_until(lambda: "Monotonic=0" not in fleet.node.systemctl(*ran))
    assert wait_until(lambda: "Result=success" in fleet.node.systemctl(*ran))
    fleet.node.appb("upgrade", "--unschedule")
    assert fleet.node.systemctl("is-active", TIMER, check=False) == "inactive"
    assert fleet.node.appb("upgrade", "--unschedule").stdout == "nothing was scheduled\n"


def test_what_is_no_time_is_refused(fleet: Fleet) -> None:
    """A window that systemd does not understand is none, and nothing is scheduled."""
    said = fleet.node.appb("upgrade", "--schedule", "sometimes", check=False)
    assert said.status == 2
    assert fleet.node.systemctl("is-enabled", TIMER, check=False) != "enabled"
