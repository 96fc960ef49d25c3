"""`appb repo push`: a repository's folder into an OCI registry."""

import os
from pathlib import Path

from appbundle.flows.context import Context
from appbundle.repository.open import open_registry
from appbundle.repository.registry import push as oci_push
from appbundle.repository.registry.push import Pushed


def push(context: Context, directory: str, url: str, *, everything: bool = False) -> Pushed:
    """Make a registry have what a folder has.

    Args:
        directory: The folder; it stays the master copy.
        url: `oci://…`, or `oci+http://…`.
        everything: Also look after what the registry should have already.

    Raises:
        UsageError: It is no such address.
        AppbError: As `oci_push.push`.
    """
    registry = open_registry(url, may_push=True)
    report = context.report

    def progress(path: str, done: int, total: int) -> None:
        if done == 0:
            report.step(f"uploading {path.rpartition('/')[2].partition('.')[2]}")
        report.advance(done, total)

    report.step(f"asking {registry.address}")
    folder = Path(os.path.abspath(directory))
    return oci_push.push(folder, registry, everything=everything, progress=progress)
