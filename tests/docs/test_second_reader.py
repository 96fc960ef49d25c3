"""docs/format.md is enough to write a second reader: `second_reader.py` is one."""

import ast
import os
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from appbundle.bundle.services import Health, Limits, Service, Socket, Stop
from appbundle.bundle.settings import Setting, Template
from appbundle.bundle.tasks import Rollback, Task
from appbundle.errors import ManifestError
from tests.bundle import test_command_rules, test_service_rules
from tests.bundles import WEB, Draft, Entry, File, Link, Node, complete, draft, make_node, new_key
from tests.bundles import read_tree as read_literal
from tests.docs import second_reader
from tests.docs.place import Place
from tests.docs.second_reader import Refused
from tests.hostile import test_frames, test_names, test_numbers

KEY = new_key()
ALLOWED = {KEY.public.raw: {"web"}}
LONG = "/".join(["directory" * 5] * 4)

HONEST: dict[str, dict[str, Entry]] = {
    "small": WEB,
    "empty": {},
    "long-and-foreign-names": {
        f"{LONG}/file": File("deep"),
        "naïve/日本": File("not ASCII"),
        "x" * 100: File("a name that just fits"),
        "y" * 101: File("a name that does not"),
        "link": Link(f"{LONG}/file"),
        "foreign": Link("naïve/日本"),
    },
    "outward": {"lib/python": Link("/usr/bin/python3"), "up": Link("../../x"), "lib/x": File("x")},
    "links-over-links": {"a": Link("b/.."), "b": Link("lib/deep"), "lib/deep/x": File("x")},
    "large": {"big": File(os.urandom(1 << 20) * 9), "small": File("1"), "z/empty": File()},
    "twins": {"a": File("same"), "b": File("same"), "c": File("same", executable=True)},
}


@pytest.fixture
def node(tmp_path: Path) -> Node:
    """A node of appb that trusts the key."""
    return make_node(tmp_path, KEY)


def read(path: Path, target: Path | None = None) -> second_reader.Bundle:
    """Read a bundle with the second reader."""
    with path.open("rb", buffering=0) as file:
        return second_reader.read(file, allowed=ALLOWED, target=target)


def test_second_reader_stands_alone() -> None:
    """It imports nothing of appb: what it knows is from the page."""
    tree = ast.parse(Path(second_reader.__file__).read_text())
    modules = {
        name
        for each in ast.walk(tree)
        if isinstance(each, ast.Import | ast.ImportFrom)
        for name in (
            [each.module or ""]
            if isinstance(each, ast.ImportFrom)
            else [alias.name for alias in each.names]
        )
    }
    assert not {name for name in modules if name.split(".")[0] in ("appbundle", "tests", "")}


@pytest.mark.parametrize("tree", HONEST.values(), ids=list(HONEST))
def test_both_readers_unpack_the_same(node: Node, tmp_path: Path, tree: dict[str, Entry]) -> None:
    """What the second reader unpacks is what appb installs: entries, modes, contents, links."""
    path = node.write(draft(tree))
    node.install(path)
    read(path, tmp_path / "again")
    assert read_literal(tmp_path / "again") == node.tree() == complete(tree)


def test_built_bundle_is_read(place_with: Callable[[str], Place], tmp_path: Path) -> None:
    """A bundle that `appb build` has made and signed is read and unpacked alike."""
    place = place_with("node")
    public = (place.work / "team.key.pub").read_text().split()[1]
    place.run("appb unpack hello-2.0.bundle installed")
    with (place.work / "hello-2.0.bundle").open("rb") as file:
        bundle = second_reader.read(
            file, allowed={raw_key(public): {"hello"}}, target=tmp_path / "again"
        )
    assert (bundle.manifest["name"], bundle.manifest["release"]) == ("hello", 2)
    assert read_literal(tmp_path / "again") == read_literal(place.node / "apps/hello/2.0")


def raw_key(text: str) -> bytes:
    """The 32 bytes in the middle column of a `.pub` file."""
    import base64

    return base64.b64decode(text)[-32:]


HOSTILE: dict[str, Callable[[], Draft]] = {
    **{f"{name}/names": make for name, make, _ in test_names.CASES},
    **{
        f"{name}/numbers": make
        for name, make in test_numbers.CASES.items()
        if name != "53-trailing-blank"  # Its own test adds the blank.
    },
    **{f"{name}/headers": make for name, make in test_frames.HEADERS.items()},
}


@pytest.mark.parametrize("make", HOSTILE.values(), ids=list(HOSTILE))
def test_what_appb_refuses_the_page_refuses(node: Node, make: Callable[[], Draft]) -> None:
    """A correctly signed bundle that breaks a rule breaks one that stands on the page."""
    with pytest.raises(Refused):
        read(node.write(make()))


FULL = Service(
    name="http",
    argv=("/bin/web", "--port={{ port }}", "}} as it is"),
    kind="long",
    environment={"URL": "http://{{host}}:{{  port  }}/", "A": ""},
    directory="/var/lib/web",
    sockets=(
        Socket(name="http", listen="{{ host }}:{{ port }}"),
        Socket(name="six", listen="[::1]:80", backlog=1),
        Socket(name="all", listen="*:65535"),
        Socket(name="path", listen="/run/web/a.sock"),
    ),
    ready="socket",
    health=Health(http="https://[::1]:{{ port }}/health?all#now", grace_s=0, attempts=1),
    stop=Stop(signal="QUIT"),
    reload="HUP",
    after=("database", "queue/broker"),
    change="reload",
    limits=Limits(cpu_percent=50, memory_bytes=1 << 20),
    entitlements=("bind-low", "capability:bpf", "device:/dev/kvm", "read:/srv/a+b@c", "write:/x"),
)
SERVING: dict[str, dict[str, object]] = {
    "defaults-said": {
        "services": (
            Service(name="web", argv=("/bin/web",), stop=Stop(timeout_s=30), limits=Limits()),
        )
    },
    "what-the-wrong-ones-begin-with": {"services": (test_service_rules.GOOD,)},
    "everything": {
        "services": (
            FULL,
            Service(name="job", argv=("/bin/web",), kind="once", every="*-*-01 02:00"),
            Service(name="web", argv=("/bin/web",), health=Health(command=("/bin/web", "{{"))),
            Service(name="tcp", argv=("/bin/web",), health=Health(tcp="localhost:80")),
        ),
        "settings": (
            Setting(name="port", type="port", default="080"),
            Setting(name="host", type="address", default="127.0.0.1", help="where"),
            Setting(name="mode", choices=("fast", "safe")),
            Setting(name="count", type="integer", default="-1", choices=("-1", "2")),
            Setting(name="on", type="boolean", default="false"),
            Setting(name="password", secret=True),
        ),
        "templates": (Template(source="lib/one.py", target="lib/two.py"),),
        "tasks": (
            Task(when="restore", argv=("/bin/web", "{{ state }}"), entitlements=("jit",)),
            Task(when="migrate", argv=("/bin/web",), timeout_s=86_400, environment={"B": "1"}),
        ),
        "rollback": (
            Rollback(below=7, kind="forbidden", reason="the disk has another form"),
            Rollback(below=9, kind="code"),
        ),
    },
}


@pytest.mark.parametrize("keys", SERVING.values(), ids=list(SERVING))
def test_both_readers_read_services(node: Node, keys: dict[str, object]) -> None:
    """What may be declared of services and settings is read by both, with the same defaults."""
    made = draft(WEB).change(**keys)
    node.install(node.write(made))
    manifest = read(node.write(made)).manifest
    for key in keys:
        assert manifest[key] == spelled_out(getattr(made.manifest, key))


def spelled_out(value: object) -> object:
    """Structures as objects with all their keys."""
    if isinstance(value, msgspec.Struct):
        return {key: spelled_out(getattr(value, key)) for key in value.__struct_fields__}
    if isinstance(value, tuple):
        return [spelled_out(each) for each in value]
    return value


@pytest.mark.parametrize(
    "change", test_service_rules.WRONG.values(), ids=list(test_service_rules.WRONG)
)
def test_wrong_service_is_refused(node: Node, change: dict[str, object]) -> None:
    """A signed service that breaks a rule is refused by appb, and by the page."""
    service = msgspec.structs.replace(test_service_rules.GOOD, **change)
    path = node.write(draft(WEB).change(services=(service,)))
    with pytest.raises(ManifestError):
        node.install(path)
    with pytest.raises(Refused):
        read(path)


COMMANDS: dict[str, dict[str, tuple[str, ...]]] = {
    f"command-{at}": case for at, case in enumerate(test_command_rules.WRONG)
}


@pytest.mark.parametrize("commands", COMMANDS.values(), ids=list(COMMANDS))
def test_wrong_commands_are_refused(node: Node, commands: dict[str, tuple[str, ...]]) -> None:
    """What appb refuses of commands, the page refuses."""
    path = node.write(draft(test_command_rules.TREE).change(commands=commands))
    with pytest.raises(ManifestError):
        node.install(path)
    with pytest.raises(Refused):
        read(path)


def test_commands_are_read(node: Node) -> None:
    """What is right of commands is read by both."""
    path = node.write(draft(test_command_rules.TREE).change(commands=test_command_rules.GOOD))
    node.install(path)
    assert read(path).manifest["commands"].keys() == test_command_rules.GOOD.keys()


PLACED = Service(
    name="a", argv=("/bin/web", "{{ port }}"), sockets=(Socket(name="a", listen="*:1"),)
)
TOGETHER: dict[str, dict[str, object]] = {
    "no-such-setting": {"services": (PLACED,)},
    "secret": {"services": (PLACED,), "settings": (Setting(name="port", secret=True),)},
    "not-a-place": {"services": (msgspec.structs.replace(PLACED, argv=("/bin/web", "{{ 1 }}")),)},
    "built-in": {"settings": (Setting(name="state"),)},
    "two-of-one-name": {"services": (FULL, FULL), "settings": SERVING["everything"]["settings"]},
    "two-sockets-of-one-unit": {
        "services": (
            msgspec.structs.replace(PLACED, argv=("/bin/web",)),
            msgspec.structs.replace(PLACED, name="web", argv=("/bin/web",)),
        )
    },
    "template-of-no-file": {"templates": (Template(source="lib/one.py", target="lib/none"),)},
    **{
        f"settings-{at}": dict(
            zip(("settings", "templates", "tasks", "rollback"), case, strict=True)
        )
        for at, case in enumerate(test_service_rules.WRONG_SETTINGS)
    },
}


@pytest.mark.parametrize("keys", TOGETHER.values(), ids=list(TOGETHER))
def test_wrong_declarations_are_refused(node: Node, keys: dict[str, object]) -> None:
    """What does not fit together is refused by appb, and by the page."""
    made = draft(WEB).change(**keys)
    with pytest.raises(ManifestError):
        node.install(node.write(made))
    with pytest.raises(Refused):
        read(node.write(made))


@pytest.mark.parametrize("make", test_frames.FRAMES.values(), ids=list(test_frames.FRAMES))
def test_hostile_frames_are_refused(node: Node, make: Callable[[bytes], bytes]) -> None:
    """So does one whose frame is not the one zstd frame of the page."""
    made = draft(test_frames.BIG)
    plain = test_frames.stream_of(made)
    with pytest.raises(Refused):
        read(node.write(made.with_compressed([(make(plain), len(plain))])))


def test_every_flipped_byte_is_noticed(node: Node) -> None:
    """No byte of a bundle is without meaning."""
    path = node.write(draft(WEB))
    content = bytearray(path.read_bytes())
    unnoticed = []
    for at in range(len(content)):
        content[at] ^= 1
        path.write_bytes(content)
        try:
            read(path)
            unnoticed.append(at)
        except Refused:
            pass
        content[at] ^= 1
    assert unnoticed == []


@pytest.mark.parametrize("cut", [-1, -11, -600, 2060, 5])
def test_cut_bundle_is_refused(node: Node, cut: int) -> None:
    """A bundle ends where it should, or is refused."""
    path = node.write(draft(WEB))
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(Refused):
        read(path)


def test_order_of_reading_asks_for_trust_first(node: Node) -> None:
    """Whoever signed is asked before anything is unpacked, and too few or others are refused."""
    stranger = new_key()
    made = draft(WEB)
    made.manifest_frame = b"never unpacked"
    cases = {
        "not signed": made.encode(),
        "no trusted key": made.encode(stranger),
        "too few keys": made.encode(KEY, KEY),
    }
    for words, content in cases.items():
        path = node.layout.root.parent / "case.bundle"
        path.write_bytes(content)
        with path.open("rb") as file, pytest.raises(Refused, match=words):
            second_reader.read(file, allowed=ALLOWED, threshold=2)
    other = draft(WEB, name="other").encode(KEY)
    path.write_bytes(other)
    with pytest.raises(Refused, match="allowed for this app"):
        read(path)
