"""What a repository of a thousand apps with twenty versions each costs readers and publisher."""

from pathlib import Path

import pytest
from tuf.api.metadata import Metadata, MetaFile, Snapshot, Timestamp

from appbundle.names import AppName
from appbundle.repository import delegations
from appbundle.repository.keys import sign
from appbundle.repository.publishing import online
from appbundle.repository.publishing.draft import Draft, changing
from tests.bundles import new_key, picture
from tests.crash.support import KEY, make_bundle
from tests.repository.publisher import Publisher

APPS = [AppName(f"server-{number:03}") for number in range(1000)]
"""As long as names of services are on average; of the first one there are bundles."""
VERSIONS = 20
KB = 1000
LIMITS_KB = (200, 1, 40)
_PUBLISHERS = 50


def furnish(repo: Publisher, draft: Draft) -> None:
    """Publish the top of a large repository; only the roles that a test reads have files."""
    targets = draft.propose_targets()
    keys = [new_key().public for _ in range(_PUBLISHERS)]
    for at, app in enumerate(APPS[1:]):
        delegations.delegate(targets, app, [keys[at % _PUBLISHERS]], 1)
    draft.sign(KEY)
    draft.settle()
    (key,) = online.read(repo.folder)
    snapshot = Metadata[Snapshot].from_file(str(repo.folder.role("snapshot", 2)))
    snapshot.signed.meta |= {f"{app}.json": MetaFile(VERSIONS) for app in APPS[1:]}
    snapshot.signed.version = 3
    timestamp = Metadata[Timestamp].from_file(str(repo.folder.timestamp))
    timestamp.signed.snapshot_meta = MetaFile(3)
    timestamp.signed.version = 3
    for name, made in (("snapshot", snapshot), ("timestamp", timestamp)):
        made.signatures.clear()
        sign(made, [key])
        made.to_file(str(repo.folder.role(name, 3)))


def release(directory: Path, number: int) -> Path:
    """A bundle of the first app."""
    summary = "Serves something that takes a line of about this length to say"
    return make_bundle(directory, APPS[0], f"33.{number}.0", release=number, summary=summary)


@pytest.fixture
def repo(memory: Path) -> Publisher:
    """A publisher with a thousand apps, one of which has all but one of its versions."""
    made = Publisher(memory)
    made.publish(*(release(memory, number) for number in range(1, VERSIONS)))
    with changing(
        made.folder, now=made.now, purpose="test", timeout_s=0, waiting=lambda _: None
    ) as draft:
        furnish(made, draft)
    return made


def test_readers_fetch_little(repo: Publisher, memory: Path) -> None:
    """The first refresh takes 200 kB at most, nothing new 1 kB, one release 40 kB."""
    sizes = []
    for step in ("first", "nothing", "release"):
        if step == "release":
            repo.publish(release(memory, VERSIONS))
        reader = repo.reader()
        assert reader.updater
        if step == "release":
            assert len(reader.targets(APPS[0])) >= VERSIONS
        sizes.append(reader.fetched_bytes)
    print(f"\nfirst refresh, nothing new, one release: {sizes} bytes")
    assert [size <= limit * KB for size, limit in zip(sizes, LIMITS_KB, strict=True)] == [True] * 3


def test_publishing_writes_only_what_is_new(repo: Publisher, memory: Path) -> None:
    """Of a thousand apps' roles only one is read or written: the others have no files here."""
    bundle = release(memory, VERSIONS)
    before = picture(repo.folder.path)
    repo.publish(bundle)
    after = picture(repo.folder.path)
    new = [Path(path) for path, what in after.items() if before.get(path) != what]
    files = {path.name.partition(".")[2]: path.stat().st_size for path in new if path.is_file()}
    app = APPS[0]
    kinds = {name.replace(f"{app}-33.{VERSIONS}.0", "NEW").partition(".from-")[0] for name in files}
    assert kinds == {
        "NEW",  # the manifest's patch
        "NEW.bundle",
        f"{app}.json",
        "snapshot.json",
        "json",  # the timestamp
        "catalog.json",
    }
    files.pop(f"{app}-33.{VERSIONS}.0.bundle")
    assert sum(files.values()) <= 50 * KB
