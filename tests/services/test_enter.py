"""exec and stats on services that systemd runs: found and entered like those of `appb run`."""

import subprocess

import pytest

from appbundle.bundle.services import Limits
from tests.services.apps import web
from tests.services.conftest import Fleet

pytestmark = [pytest.mark.root, pytest.mark.slow]

PROBE = r"""
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
int main(void) {
    char line[256];
    FILE *status = fopen("/proc/self/status", "r");
    while (fgets(line, sizeof line, status))
        if (!strncmp(line, "Cap", 3) || !strncmp(line, "NoNew", 5) || !strncmp(line, "Seccomp:", 8))
            fputs(line, stdout);
    printf("uid %d\n", getuid());
    FILE *version = fopen("/share/version", "r");
    if (version && fgets(line, sizeof line, version)) printf("version %s", line);
    FILE *note = fopen("/var/lib/web/note", "w");
    printf("state %s\n", note ? "writable" : strerror(errno));
    printf("inet %s\n", socket(AF_INET, SOCK_STREAM, 0) < 0 ? strerror(errno) : "open");
    FILE *group = fopen("/proc/self/cgroup", "r");
    while (fgets(line, sizeof line, group))
        if (strstr(line, "web.service")) { printf("group web.service\n"); break; }
    return 9;
}
"""


@pytest.fixture
def probing(fleet: Fleet) -> Fleet:
    """A service that systemd runs, and a probe in a directory of the host's that it may read."""
    source = fleet.node.scratch / "probe.c"
    source.write_text(PROBE)
    program = fleet.node.scratch / "probe"
    subprocess.run(["gcc", "-static", "-O1", "-o", program, source], check=True)
    fleet.install(web(entitlements=("read:/opt",)), files={"opt/.keep": ""})
    return fleet


def test_exec_enters_a_unit(probing: Fleet) -> None:
    """As its user, in its tree and control group, with its filter and without capabilities."""
    node = probing.node
    node.run("sh", "-c", f"mkdir -p /opt && cp {node.scratch}/probe /opt/probe", check=True)
    said = node.appb("exec", "web", "--", "/opt/probe", check=False)
    assert said.status == 9, said
    found = dict(line.split(maxsplit=1) for line in said.stdout.splitlines())
    assert {found[f"Cap{kind}:"] for kind in ("Inh", "Prm", "Eff", "Bnd", "Amb")} == {"0" * 16}
    assert (found["NoNewPrivs:"], found["Seccomp:"]) == ("1", "2")
    assert found["version"] == "web 1.0"
    assert found["state"] == "writable"
    assert found["inet"] == "Address family not supported by protocol"
    assert found["group"] == "web.service"
    owner = node.run("stat", "-c", "%u", "/var/lib/web/note").stdout.strip()
    assert owner == node.run("id", "-u", "appb-web").stdout.strip() == found["uid"]


def test_stats_know_units(fleet: Fleet) -> None:
    """The open files of a unit's main process, and its limit, are told."""
    fleet.install(web(limits=Limits(open_files=777)))
    (service,) = fleet.node.appb("--json", "stats", "web").document["services"]
    assert (service["app"], service["service"]) == ("web", "web")
    assert str(service["pid"]) == fleet.node.show("web.service", "MainPID")
    files = {each["name"]: each for each in service["resources"]}["open_files"]
    assert files["limit"] == 777
    assert files["held"] >= 3
