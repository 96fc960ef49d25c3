"""Confinement: what a service may do and see beyond next to nothing. docs/services.md.

A service starts with no capability, no network, no device, a read-only tree, its own directories.
Each *entitlement* opens one thing; a bundle declares them, and they are shown before they count.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from appbundle.errors import ManifestError
from appbundle.names import escape

_PATH = re.compile(r"/[A-Za-z0-9._+@/-]{1,255}", re.ASCII)
_CAPABILITY = re.compile(r"[a-z][a-z_]{1,30}", re.ASCII)

CAPABILITIES = (
    *("chown", "dac_override", "dac_read_search", "fowner", "fsetid", "kill", "setgid", "setuid"),
    *("setpcap", "linux_immutable", "net_bind_service", "net_broadcast", "net_admin", "net_raw"),
    *("ipc_lock", "ipc_owner", "sys_module", "sys_rawio", "sys_chroot", "sys_ptrace", "sys_pacct"),
    *("sys_admin", "sys_boot", "sys_nice", "sys_resource", "sys_time", "sys_tty_config", "mknod"),
    *("lease", "audit_write", "audit_control", "setfcap", "mac_override", "mac_admin", "syslog"),
    *("wake_alarm", "block_suspend", "audit_read", "perfmon", "bpf", "checkpoint_restore"),
)
"""By number, from 0, as of capabilities(7)."""


@dataclass(frozen=True, slots=True)
class Kind:
    """One thing that can be opened.

    Args:
        words: What it lets a service do; `{}` stands for the argument.
        argument: Whether an argument is one that makes sense; None if there is none.
    """

    words: str
    argument: Callable[[str], bool] | None = None


def _is_path(text: str) -> bool:
    return bool(_PATH.fullmatch(text)) and not {"", ".", ".."} & set(text.split("/")[1:])


def _is_device(text: str) -> bool:
    return _is_path(text) and text.startswith("/dev/")


def _is_capability(text: str) -> bool:
    return text in CAPABILITIES


KINDS = {
    "network-out": Kind("opens connections on the host's network"),
    "listen": Kind("listens on the host's network"),
    "bind-low": Kind("listens on ports below 1024"),
    "netlink": Kind("asks the kernel about network and routing (netlink)"),
    "procfs": Kind("sees the kernel's figures in /proc, and other processes of its own"),
    "jit": Kind("makes memory that is writable and executable"),
    "nice": Kind("changes its priorities and processor affinity"),
    "namespaces": Kind("makes namespaces of its own"),
    "device": Kind("uses the device {}", _is_device),
    "capability": Kind("has the capability {}", _is_capability),
    "read": Kind("reads the host's {}", _is_path),
    "write": Kind("writes to the host's {}", _is_path),
}


@dataclass(frozen=True, slots=True, order=True)
class Entitlement:
    """One opening, written `KIND` or `KIND:ARGUMENT`."""

    kind: str
    argument: str = ""

    def __str__(self) -> str:
        return f"{self.kind}:{self.argument}" if self.argument else self.kind

    @property
    def words(self) -> str:
        """What it lets a service do, as the end of a sentence that begins with the service."""
        return KINDS[self.kind].words.format(self.argument)


def parse(text: str) -> Entitlement:
    """Read one entitlement.

    Raises:
        ManifestError: There is no such kind, or the argument makes no sense.
    """
    kind, colon, argument = text.partition(":")
    known = KINDS.get(kind)
    if known is None:
        raise ManifestError(f"there is no such entitlement: {escape(text)}")
    wanted = known.argument
    if bool(colon) != (wanted is not None) or (wanted is not None and not wanted(argument)):
        raise ManifestError(f"an entitlement with a wrong argument: {escape(text)}")
    return Entitlement(kind, argument)


def words(entitlements: Iterable[str]) -> Iterator[str]:
    """Say what a service's entitlements let it do, one phrase each, sorted."""
    return (parse(each).words for each in sorted(entitlements))


def capabilities(opened: Iterable[Entitlement]) -> list[str]:
    """The capabilities that entitlements bring, sorted, as of `CAPABILITIES`."""
    found = {each.argument for each in opened if each.kind == "capability"}
    if any(each.kind == "bind-low" for each in opened):
        found.add("net_bind_service")
    return sorted(found)


def families(opened: Iterable[Entitlement]) -> list[str]:
    """The address families of socket(2) that entitlements leave, sorted; never none."""
    kinds = {each.kind for each in opened}
    found = {"AF_UNIX"}
    if kinds & {"network-out", "listen", "bind-low"}:
        found |= {"AF_INET", "AF_INET6"}
    if "netlink" in kinds:
        found.add("AF_NETLINK")
    return sorted(found)
