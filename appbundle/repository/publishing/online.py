"""The online key: of snapshot, timestamp and catalog, which a timer signs without anybody there."""

import os
from collections.abc import Collection

from appbundle.repository.publishing.folder import Folder
from appbundle.system import files
from appbundle.trust import keys
from appbundle.trust.keys import PrivateKey, PublicKey


def read(folder: Folder) -> tuple[PrivateKey, ...]:
    """Read the online key, and that of a root that is not published yet; none if not here."""
    found = []
    for path in (folder.online_key, folder.next_online_key):
        try:
            found.append(keys.load_private_key(path.read_bytes()))
        except FileNotFoundError:
            continue
    return tuple(found)


def make(folder: Folder) -> PrivateKey:
    """Make the online key of a new repository; one that an interrupted first use left is taken."""
    if not folder.online_key.exists():
        made = keys.generate(comment=f"online key of {folder.path.name}").private
        files.write_durably(folder.online_key, made, mode=0o600)
    return keys.load_private_key(folder.online_key.read_bytes())


def make_next(folder: Folder) -> PrivateKey:
    """Make the online key for the next root."""
    made = keys.generate(comment=f"online key of {folder.path.name}").private
    files.write_durably(folder.next_online_key, made, mode=0o600)
    return keys.load_private_key(made)


def adopt(folder: Folder, wanted: Collection[PublicKey]) -> None:
    """Let the next online key take the old one's place if the current root asks for it.

    Args:
        wanted: The keys of the current root's timestamp.
    """
    try:
        key = keys.load_private_key(folder.next_online_key.read_bytes())
    except FileNotFoundError:
        return
    if key.public in wanted:
        os.rename(folder.next_online_key, folder.online_key)
        files.fsync_directory(folder.online_key.parent)
