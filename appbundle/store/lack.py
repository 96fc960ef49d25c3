"""What this node lacks of a bundle that is not installed yet; nothing is written."""

import os
from collections.abc import Sequence
from dataclasses import dataclass

from appbundle.bundle.manifest import Manifest
from appbundle.bundle.payload import measure
from appbundle.layout import Layout
from appbundle.store.stage import first_states
from appbundle.store.unpack import frames_needed
from appbundle.store.worker import FileState, object_name
from appbundle.system import files


@dataclass(frozen=True, slots=True, kw_only=True)
class Lack:
    """What installing would write, and which frames it would need for that.

    Args:
        size_bytes: Of the contents that the pool lacks.
        files: How many those are.
        frames: The frames that hold them; ascending.
    """

    size_bytes: int
    files: int
    frames: Sequence[int]


def find_lack(layout: Layout, manifest: Manifest, given: set[str]) -> Lack:
    """Compare a manifest with the pool.

    Args:
        given: Names of objects that earlier bundles of the same installation bring; what this
            one brings is added.
    """
    states, _ = first_states(manifest)
    for index, file in enumerate(manifest.files):
        if states[index] == FileState.MISSING and object_name(file) in given:
            states[index] = FileState.LINKED
    if layout.objects.is_dir():
        with files.directory(layout.objects) as fd:
            for index, file in enumerate(manifest.files):
                if states[index] == FileState.MISSING and _exists(object_name(file), fd):
                    states[index] = FileState.LINKED
    new = [f for i, f in enumerate(manifest.files) if states[i] == FileState.MISSING]
    given.update(map(object_name, new))
    shape = measure(manifest.directories, manifest.links, manifest.files)
    return Lack(
        size_bytes=sum(file.size for file in new),
        files=len(new),
        frames=frames_needed(manifest, shape, states),
    )


def _exists(name: str, dir_fd: int) -> bool:
    try:
        os.lstat(name, dir_fd=dir_fd)
    except FileNotFoundError:
        return False
    return True
