"""What entitlements open, read without the imports of `appbundle.bundle.confinement`.

The manifest was checked when it was signed and installed; a test holds both to the same answers.
"""

from __future__ import annotations

CAPABILITIES = (
    *("chown", "dac_override", "dac_read_search", "fowner", "fsetid", "kill", "setgid", "setuid"),
    *("setpcap", "linux_immutable", "net_bind_service", "net_broadcast", "net_admin", "net_raw"),
    *("ipc_lock", "ipc_owner", "sys_module", "sys_rawio", "sys_chroot", "sys_ptrace", "sys_pacct"),
    *("sys_admin", "sys_boot", "sys_nice", "sys_resource", "sys_time", "sys_tty_config", "mknod"),
    *("lease", "audit_write", "audit_control", "setfcap", "mac_override", "mac_admin", "syslog"),
    *("wake_alarm", "block_suspend", "audit_read", "perfmon", "bpf", "checkpoint_restore"),
)
"""By number, from 0."""
UNDECLARED = ("jit", "listen", "netlink", "network-out", "nice", "procfs")
"""What `run` in a manifest opens, which has no entitlements to declare."""

_FAMILIES = {"AF_UNIX": 1, "AF_INET": 2, "AF_INET6": 10, "AF_NETLINK": 16}


class Opened:
    """A service's entitlements.

    Args:
        texts: As declared, `KIND` or `KIND:ARGUMENT`.
    """

    def __init__(self, texts: tuple[str, ...]) -> None:
        pairs = [text.partition(":") for text in texts]
        self.kinds = frozenset(kind for kind, _, _ in pairs)
        self.reads = tuple(path for kind, _, path in pairs if kind == "read")
        self.writes = tuple(path for kind, _, path in pairs if kind == "write")
        self.devices = tuple(path for kind, _, path in pairs if kind == "device")
        named = {name for kind, _, name in pairs if kind == "capability"}
        if "bind-low" in self.kinds:
            named.add("net_bind_service")
        self.capabilities = tuple(sorted(CAPABILITIES.index(name) for name in named))

    @property
    def has_network(self) -> bool:
        """Whether it opens or takes connections on the host's network."""
        return not self.kinds.isdisjoint(("network-out", "listen", "bind-low"))

    @property
    def shares_network(self) -> bool:
        """Whether it is in the host's network namespace; else it has one with only a loopback."""
        return self.has_network or "netlink" in self.kinds

    @property
    def may_mount(self) -> bool:
        """Whether it may change mounts, of which landlock would keep it."""
        return "namespaces" in self.kinds or CAPABILITIES.index("sys_admin") in self.capabilities

    @property
    def families(self) -> dict[str, int]:
        """The address families of socket(2), by name."""
        found = {"AF_UNIX"}
        if self.has_network:
            found |= {"AF_INET", "AF_INET6"}
        if "netlink" in self.kinds:
            found.add("AF_NETLINK")
        return {name: _FAMILIES[name] for name in sorted(found)}
