"""OpenStack's control plane from its bundles, under a booted systemd, with the real client."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.services.booted import REPOSITORY, Booted, booted, wait_until, why_not

pytestmark = [pytest.mark.root, pytest.mark.network, pytest.mark.minutes]

BUNDLES = REPOSITORY / "out/openstack"
ADDRESS = "192.0.2.10"


_NETWORK = f"""
[Unit]
Wants=network-online.target
Before=network-online.target
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=ip address add {ADDRESS}/32 dev lo
"""


def _add_network(root: Path) -> None:
    """Let a node have the address, late: after all sockets are open, as of a slow interface."""
    units = root / "etc/systemd/system"
    (units / "late-address.service").write_text(_NETWORK)
    (units / "multi-user.target.wants").mkdir(exist_ok=True)
    (units / "multi-user.target.wants/late-address.service").symlink_to("../late-address.service")


def test_control_plane_from_a_node_file() -> None:
    """A node file with nothing but an address becomes a control plane that starts servers. Nova is
    upgraded while it is asked, saved from a broken release, taken back with its databases; the
    demo, which ends at whatever is not so, tells it. A restarted node has all of it again."""
    if reason := why_not() or ("" if shutil.which("mmdebstrap") else "needs mmdebstrap"):
        pytest.skip(reason)
    subprocess.run([REPOSITORY / "scripts/build-openstack", BUNDLES], check=True, timeout=2400)
    with booted(prepare=_add_network) as node:
        demo = ("scripts/demo-openstack", str(BUNDLES), "/")
        words = ("env", "-C", str(REPOSITORY), f"ADDRESS={ADDRESS}", f"HOME={node.scratch}", *demo)
        said = node.run(*words, timeout_s=1800)
        assert said.status == 0, f"{said.stdout[-6000:]}\n{said.stderr[-6000:]}"
        assert f"http://{ADDRESS}:8774/" in said.stdout
        node.reboot()
        assert wait_until(lambda: _all_healthy(node), 300), node.appb("status").stdout
        client = ("run", "openstackclient", "--", "openstack")
        servers = node.appb(*client, "server", "list", "-f", "value", "-c", "Name", "-c", "Status")
        assert sorted(servers.stdout.splitlines()) == ["again ACTIVE", "before ACTIVE"]


def _all_healthy(node: Booted) -> bool:
    services = node.appb("--json", "status").document["services"]
    return all(each["health"] in ("healthy", "unknown") and each["pid"] for each in services)
