"""What shows that a control plane works: the most that its apps allow, by the real client."""

import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from measure import run
from nodes import Node

_CLIENT = "openstackclient"
_TOKEN = "token issue"
_SERVER = (
    "image create --disk-format raw --container-format bare bench",
    "flavor create --ram 64 --disk 1 --vcpus 1 bench",
    "server create --image bench --flavor bench --nic none --wait bench",
)
_IMAGE_BYTES = 8 << 20
_SEED = 8


def describe(apps: Sequence[str]) -> str:
    """Say what is done."""
    commands = _commands(apps)
    return ", ".join(f"`openstack {each}`" for each in commands) if commands else "nothing"


def use(node: Node, apps: Sequence[str], scratch: Path) -> bool:
    """Do it; tells whether there is anything to do.

    Args:
        scratch: Where the image's file is made.

    Raises:
        ChildFailed: It does not work.
    """
    image = scratch / "image"
    image.write_bytes(random.Random(_SEED).randbytes(_IMAGE_BYTES))
    commands = _commands(apps)
    for each in commands:
        words = (*node.appb, "run", _CLIENT, "--", "openstack", *each.split())
        asked = node.command(*words)
        run([replace(asked, stdin=image)])
    return bool(commands)


def _commands(apps: Sequence[str]) -> Sequence[str]:
    if not {_CLIENT, "keystone"} <= {*apps}:
        return ()
    return (_TOKEN, *_SERVER) if {"glance", "nova"} <= {*apps} else (_TOKEN,)
