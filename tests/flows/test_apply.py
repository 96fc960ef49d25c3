"""`appb apply`: a node has what its node file says; tests/services/test_apply.py runs services."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from appbundle.bundle.settings import Setting, Template
from appbundle.errors import (
    AppbError,
    ConflictError,
    CorruptError,
    DowngradeError,
    NotFoundError,
    UnknownKeyError,
    UsageError,
)
from appbundle.flows import apply as applying
from appbundle.flows import holds, settings
from appbundle.flows.install import Installed
from appbundle.names import AppName
from appbundle.store import node_file
from appbundle.trust import keys
from tests.crash.support import NOW, Node, hello, make_bundle, run_cli
from tests.repository.publisher import Publisher, use

STRANGER = keys.load_private_key(keys.generate(comment="stranger").private)
PORT = Setting(name="port", type="port", default="80")
SHOWN = Template(source="share/page.j2", target="share/page")
DECLARED: dict[str, dict[str, Any]] = {
    "web": {
        "settings": (
            PORT,
            Setting(name="address", type="address", default="127.0.0.1"),
            Setting(name="debug", type="boolean", default="false"),
            Setting(name="token", secret=True),
        ),
        "templates": (SHOWN,),
        "tree": hello("web") | {"share/page.j2": b"{{ address }}:{{ port }}", "share/page": b""},
    },
    "data": {"settings": (PORT, Setting(name="address", type="address", default="::1"))},
}

Make = Callable[..., Path]


@pytest.fixture
def shelf(memory: Path) -> Path:
    """A directory for bundle files."""
    (memory / "shelf").mkdir()
    return memory / "shelf"


@pytest.fixture
def make(shelf: Path) -> Make:
    """Give bundles of `web` and `data`, which declare settings, and of other apps."""

    def made(name: str, number: int = 1, **more: Any) -> Path:
        how = DECLARED.get(name, {}) | more
        return make_bundle(shelf, name, f"{number}.0", release=number, **how)

    return made


@pytest.fixture
def apply(node: Node, memory: Path, shelf: Path) -> Callable[..., Installed]:
    """Apply a node file, with the bundle files on the shelf."""

    def applied(text: str, *, now: int = NOW, shelves: bool = True, **how: Any) -> Installed:
        file = memory / "node.toml"
        file.write_text(text)
        directories = [str(shelf)] if shelves else []
        return applying.apply(node.context(now), file, directories=directories, **how)

    return applied


Apply = Callable[..., Installed]


def page(node: Node) -> str:
    """What web's rendered file says."""
    return (node.layout.generations / "current/.rendered/web/share/page").read_text()


def value(node: Node, app: str, key: str) -> tuple[str | None, str]:
    """A setting's value, and where it is from."""
    (found,) = settings.get(node.context(), AppName(app), [key], reveal=True).values
    return found.value, found.source


# What becomes of a node ---------------------------------------------------------------------------


def test_fresh_node_gets_all_in_one_generation(node: Node, make: Make, apply: Apply) -> None:
    """On a node without anything the newest bundle of each app and its settings are current."""
    for each in ("web", "data"):
        make(each, 1)
        make(each, 2)
    done = apply("[apps]\nweb = {}\ndata = { version = '1.0' }\n[settings]\nport = 81\n")
    assert done.switched.outcome == "switched"
    assert node.looks().apps == {"web": "2.0", "data": "1.0"}
    assert node.looks().generations == (1,)
    assert page(node) == "127.0.0.1:81"


def test_second_time_nothing_happens(node: Node, make: Make, apply: Apply, memory: Path) -> None:
    """Applying a file twice makes no generation, with bundle files at hand and without."""
    make("web")
    (memory / "token").write_text("open sesame\n")
    text = "[apps.web.settings]\ndebug = true\ntoken = { file = 'token' }\n"
    apply(text)
    before = node.looks()
    for shelves in (True, False):
        assert apply(text, shelves=shelves).switched.outcome == "unchanged"
    assert node.looks() == before
    assert value(node, "web", "token") == ("open sesame", "set")


def test_file_is_the_whole_truth(node: Node, make: Make, apply: Apply) -> None:
    """What it does not name leaves, or has its default again; versions on disk and state stay."""
    make("web")
    make("data")
    apply("[apps]\nweb = {}\ndata = {}\n[settings]\nport = 81\n")
    settings.change(node.context(), AppName("web"), {"debug": "true"})
    apply("[apps]\nweb = {}\n")
    assert node.looks().apps == {"web": "1.0"}
    assert ("data", "1.0") in node.looks().versions
    assert page(node) == "127.0.0.1:80"
    assert value(node, "web", "debug") == ("false", "default")
    node.previous()
    assert node.looks().apps == {"web": "1.0", "data": "1.0"}
    assert page(node) == "127.0.0.1:81"


def test_own_settings_count_more(node: Node, make: Make, apply: Apply) -> None:
    """`[settings]` is for every app that declares it; what stands with an app goes before it."""
    make("web")
    make("data")
    make("plain")
    apply(
        "[settings]\naddress = '192.0.2.10'\nport = 81\n"
        "[apps]\nplain = {}\ndata = {}\nweb = { settings = { port = 82 } }\n"
    )
    assert page(node) == "192.0.2.10:82"
    assert value(node, "data", "port") == ("81", "set")


def test_secrets_stay(node: Node, make: Make, apply: Apply) -> None:
    """A secret that was made or set stays, also over a time without the app."""
    make("web")
    make("data")
    both, one = "[apps]\nweb = {}\ndata = {}\n", "[apps]\ndata = {}\n"
    apply(both)
    made, source = value(node, "web", "token")
    assert source == "made"
    apply("[apps.web.settings]\nport = 81\n")
    assert value(node, "web", "token") == (made, "made")
    settings.change(node.context(), AppName("web"), {"token": "open sesame"})
    apply(both)
    assert value(node, "web", "token") == ("open sesame", "set")
    apply(one)
    apply(both)
    assert value(node, "web", "token") == ("open sesame", "kept")


def test_bundle_stands_beside_the_file(node: Node, make: Make, apply: Apply) -> None:
    """`bundle` is a path relative to the node file, wherever appb is started."""
    make("web")
    make("web", 2)
    apply("[apps]\nweb = { bundle = 'shelf/web-1.0.bundle' }\n", shelves=False)
    assert node.looks().apps == {"web": "1.0"}


def test_version_on_disk_may_be_older(node: Node, make: Make, apply: Apply) -> None:
    """A version that is there is current again without its bundle; anything else is a downgrade."""
    make("web")
    make("web", 2)
    apply("[apps]\nweb = { version = '1.0' }\n")
    apply("[apps]\nweb = {}\n")
    assert node.looks().apps == {"web": "2.0"}
    apply("[apps]\nweb = { version = '1.0' }\n", shelves=False)
    assert node.looks().apps == {"web": "1.0"}
    node.switch("web@2.0")
    node.remove("web@1.0")
    with pytest.raises(DowngradeError):
        apply("[apps]\nweb = { version = '1.0' }\n")
    apply("[apps]\nweb = { version = '1.0' }\n", allow_downgrade=True)
    assert node.looks().apps == {"web": "1.0"}


def test_held_app_stays(node: Node, make: Make, apply: Apply) -> None:
    """A held app keeps its version, unless the file names another."""
    make("web")
    apply("[apps]\nweb = {}\n")
    make("web", 2)
    holds.hold(node.context(), AppName("web"), reason="new disks first", until=None)
    assert apply("[apps]\nweb = {}\n").switched.outcome == "unchanged"
    apply("[apps]\nweb = { version = '2.0' }\n")
    assert node.looks().apps == {"web": "2.0"}


def test_newer_than_offered_stays(node: Node, make: Make, apply: Apply) -> None:
    """Nothing goes back because a directory has only older bundles."""
    make("web")
    node.install(make("web", 2))
    (node.root.parent / "shelf/web-2.0.bundle").unlink()
    apply("[apps]\nweb = {}\n")
    assert node.looks().apps == {"web": "2.0"}


def test_repositories_and_channels(
    node: Node, apply: Apply, tmp_path: Path, bundle: Callable[[str, int], Path]
) -> None:
    """The newest stable release comes from the repository, another channel where it is named."""
    publisher = Publisher(tmp_path)
    for number, channel in ((1, "stable"), (2, "stable"), (3, "edge")):
        publisher.publish(bundle("hello", number), channels=[channel])
    node.layout.allowed_signers.write_text("")
    use(node.layout, publisher.folder.path)
    for entry, version in (
        ("{ version = '1.0' }", "1.0"),
        ("{}", "2.0"),
        ("{ channel = 'edge' }", "3.0"),
        ("{}", "3.0"),
    ):
        apply(f"[apps]\nhello = {entry}\n", now=publisher.now)
        assert node.looks().apps == {"hello": version}
    with pytest.raises(NotFoundError, match="hello@beta"):
        apply("[apps]\nhello = { channel = 'beta' }\n", now=publisher.now)


def test_no_apps_at_all(node: Node, make: Make, apply: Apply) -> None:
    """An empty table of apps empties a node; on an empty one it does nothing."""
    make("web")
    assert apply("[apps]\n").switched.outcome == "unchanged"
    apply("[apps]\nweb = {}\n")
    apply("[apps]\n")
    assert node.looks().apps == {}


# What is said -------------------------------------------------------------------------------------


def test_plan_is_said_and_dry_run_changes_nothing(
    node: Node, make: Make, shelf: Path, memory: Path
) -> None:
    """Apps that come, go and change, and settings, are said by a dry run and before it happens."""
    for each in ("web", "data", "old"):
        node.install(make(each))
    settings.change(node.context(), AppName("web"), {"token": "open sesame"})
    make("web", 2)
    make("new")
    (memory / "token").write_text("mellon")
    file = memory / "node.toml"
    file.write_text(
        "[apps]\nnew = {}\ndata = {}\nweb = { settings = { port = 81, token = { file = 'token' }}}"
    )
    before = node.looks()
    words = ("apply", "--bundles", str(shelf), str(file))
    planned = run_cli(node, *words, "-n")
    assert node.looks() == before
    said = run_cli(node, *words)
    assert (planned.status, said.status) == (0, 0)
    for line in (
        "new: (none) → 1.0",
        "old: 1.0 → (none)",
        "web: 1.0 → 2.0",
        "web port: (default) → 81",
        "web token: (secret) → (changed)",
    ):
        assert line in planned.stdout
        assert line in said.stderr
    assert "sesame" not in planned.stdout + said.stderr + said.stdout
    assert "mellon" not in planned.stdout + said.stderr + said.stdout
    assert "would apply node.toml" in planned.stdout
    assert "applied node.toml" in said.stdout
    again = run_cli(node, "--json", *words)
    assert json.loads(again.stdout)["outcome"] == "unchanged"
    assert "nothing to do" in run_cli(node, *words).stdout
    assert "nothing to do" in run_cli(node, *words, "-n").stdout
    assert run_cli(node, "--json", "history").document["generations"][-1]["reason"] == (
        "apply node.toml"
    )


# What is refused ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "error", "what"),
    [
        ("[apps\n", UsageError, "node.toml"),
        ("\x00", UsageError, "node.toml"),
        ("[settings]\n", UsageError, "apps"),
        ("[apps]\nweb = 3\n", UsageError, r"apps"),
        ("[apps]\nweb = { versoin = '1' }\n", UsageError, "versoin"),
        ("[apps]\nweb = { version = '1.0', channel = 'beta' }\n", UsageError, "only one"),
        ("[apps]\nweb = { version = '../1' }\n", UsageError, "version"),
        ("[apps]\n'../web' = {}\n", UsageError, "name"),
        ('[apps]\nweb = { bundle = "\\u0000"}\n', UsageError, "path"),
        ("[retention]\nkeep = 3\n[apps]\n", UsageError, "retention"),
        ("[apps]\nnothing = {}\n", NotFoundError, "nothing is not on this node"),
        ("[apps]\nweb = { version = '9.0' }\n", NotFoundError, "web@9.0"),
        ("[apps]\nweb = { bundle = 'none.bundle' }\n", NotFoundError, "none.bundle"),
        ("[apps]\nweb = { bundle = 'shelf/data-1.0.bundle' }\n", UsageError, "a bundle of data"),
        ("[apps]\nweb = { bundle = 'node.toml' }\n", CorruptError, "bundle"),
        ("[apps.web.settings]\nprot = 1\n", NotFoundError, "no setting prot"),
        (
            "[apps.data.settings]\nport = 1\n[apps.web.settings]\nx = 1\n",
            NotFoundError,
            "setting x",
        ),
        ("[settings]\nprot = 1\n[apps]\nweb = {}\n", NotFoundError, "prot"),
        ("[apps.web.settings]\nport = 'many'\n", UsageError, "not a port"),
        ("[apps.web.settings]\nport = 1.5\n", UsageError, "float"),
        ("[apps.web.settings]\ndebug = 'yes'\n", UsageError, "neither true nor false"),
        ("[apps.web.settings]\nport = { file = 'none' }\n", NotFoundError, "none"),
        ("[apps.web.settings]\nport = { path = 'none' }\n", UsageError, "path"),
        ("[apps.web.settings]\ntoken = 'x'\n", UsageError, "token of web is a secret"),
        ("[settings]\ntoken = 'x'\n[apps]\nweb = {}\n", UsageError, "token of web is a secret"),
        ("a = " + "[" * 100_000, UsageError, "node.toml"),
        ("a = " + "9" * 100_000, UsageError, "node.toml"),
        ("#" + "x" * node_file.MAX_SIZE + "\n[apps]\n", UsageError, "bytes"),
    ],
)
def test_what_cannot_be_is_refused(
    node: Node, make: Make, apply: Apply, text: str, error: type[AppbError], what: str
) -> None:
    """A file that is none, or asks for what is not there, changes nothing and says why."""
    make("data")
    node.install(make("web"))
    before = node.looks()
    for dry_run in (True, False):
        with pytest.raises(error, match=what):
            apply(text, dry_run=dry_run)
    assert node.looks() == before
    assert node.leftovers() == []


def test_file_that_is_none_is_refused(node: Node, memory: Path) -> None:
    """A missing file, a directory, a device and a FIFO are refused, and nobody waits for them."""
    os.mkfifo(memory / "fifo")
    for path in (memory / "missing.toml", memory, memory / "fifo", Path("/dev/zero")):
        with pytest.raises((NotFoundError, UsageError)):
            applying.apply(node.context(), path)


def test_untrusted_bundle_is_left_aside(node: Node, make: Make, apply: Apply) -> None:
    """A directory's bundle by a stranger is not chosen; if there is no other, it is said why."""
    make("web", 2, key=STRANGER)
    with pytest.raises(UnknownKeyError):
        apply("[apps]\nweb = {}\n")
    with pytest.raises(UnknownKeyError):
        apply("[apps]\nweb = { version = '2.0' }\n")
    make("web", 1)
    apply("[apps]\nweb = {}\n")
    assert node.looks().apps == {"web": "1.0"}
    with pytest.raises(UnknownKeyError):
        apply("[apps]\nweb = { bundle = 'shelf/web-2.0.bundle' }\n")


def test_damaged_bundle_leaves_nothing(node: Node, make: Make, apply: Apply, shelf: Path) -> None:
    """If one of several bundles is cut short, none of them is installed."""
    make("data")
    whole = make("web").read_bytes()
    (shelf / "web-1.0.bundle").write_bytes(whole[:-100])
    with pytest.raises(CorruptError):
        apply("[apps]\ndata = {}\nweb = {}\n")
    assert node.looks().versions == frozenset()
    assert node.leftovers() == []


def test_other_content_is_refused(node: Node, make: Make, apply: Apply) -> None:
    """A file that names a bundle gets that bundle, and not another of its version."""
    node.install(make("web"))
    make("web", templates=())
    with pytest.raises(ConflictError, match="other content"):
        apply("[apps]\nweb = { bundle = 'shelf/web-1.0.bundle' }\n")


def test_hint_tells_the_two_files_apart(node: Node, memory: Path) -> None:
    """Whoever takes one of the two files for the other is told which is which."""
    file = memory / "node.toml"
    file.write_text("[services]\nmanager = 'none'\n[apps]\n")
    assert "/etc/appbundle/node.toml" in run_cli(node, "apply", str(file)).stderr
    node.layout.node_settings.write_text("[apps]\n")
    file.write_text("[apps]\n")
    assert "appb apply" in run_cli(node, "gc", "-n").stderr
