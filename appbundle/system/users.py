"""The passwd and group files that a service sees: root, nobody, and whom it runs as."""

from __future__ import annotations

_SHELL = "/usr/sbin/nologin"
_NOBODY = 65534


def passwd(name: str, *, uid: int, gid: int, home: str) -> str:
    """Write a passwd(5) file of three users."""
    return (
        f"root:x:0:0:root:/root:{_SHELL}\n"
        f"{name}:x:{uid}:{gid}::{home}:{_SHELL}\n"
        f"nobody:x:{_NOBODY}:{_NOBODY}:nobody:/nonexistent:{_SHELL}\n"
    )


def group(name: str, *, gid: int) -> str:
    """Write a group(5) file of three groups."""
    return f"root:x:0:\n{name}:x:{gid}:\nnogroup:x:{_NOBODY}:\n"
