"""With --json every command prints just the document that docs/json.md promises."""

import json
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from appbundle.bundle.settings import Setting
from tests.crash.support import KEY, KEY_FILE, Node, make_bundle, run_cli
from tests.flows.test_build import make_recipe
from tests.repository.publisher import Publisher, first_root, use

Bundle = Callable[[str, int], Path]

PAGE = (Path(__file__).parents[2] / "docs/json.md").read_text()
ROWS = re.findall(r"^\| (`[^|]+) \| `(\{.*\})` \|$", PAGE, re.M)
PROMISES = {
    name.strip(): shape
    for names, shape in ROWS
    for name in re.sub(r"`", "", names).replace(", ", ",").split(",")
}
"""For each row of the table, what it promises, in the notation of the page."""

TOKEN = re.compile(r'\s*("[a-z0-9_]+"|[A-Z]+|[{}\[\]:,])')


@dataclass(frozen=True)
class Map:
    """An object whose keys are names and not fixed."""

    value: object


def parse(text: str) -> object:
    """Read a shape: a dictionary, a list of one shape, a map, or None for a plain value."""
    tokens = TOKEN.findall(text)
    shape = _parse(tokens)
    assert tokens == []
    return shape


def _parse(tokens: list[str]) -> object:
    match tokens.pop(0):
        case "[":
            inner = _parse(tokens)
            assert tokens.pop(0) == "]"
            return [inner]
        case "{" if not tokens[0].startswith('"'):
            del tokens[:2]
            return Map([_parse(tokens), tokens.pop(0)][0])
        case "{":
            keys: dict[str, object] = {}
            while True:
                key = tokens.pop(0).strip('"')
                keys[key] = None
                if tokens[0] == ":":
                    tokens.pop(0)
                    keys[key] = _parse(tokens)
                if tokens.pop(0) == "}":
                    return keys
        case _:
            return None


def differences(found: object, shape: object, at: str = "$") -> list[str]:
    """Where a document has more or less than its shape; null stands for what does not apply."""
    match shape:
        case dict() if isinstance(found, dict):
            odd = [f"{at}.{key}" for key in sorted(found.keys() ^ shape.keys())]
            both = [key for key in shape if key in found]
            return odd + [x for k in both for x in differences(found[k], shape[k], f"{at}.{k}")]
        case [inner] if isinstance(found, list):
            return [x for i, e in enumerate(found) for x in differences(e, inner, f"{at}[{i}]")]
        case Map(inner) if isinstance(found, dict):
            return [x for key, e in found.items() for x in differences(e, inner, f"{at}.{key}")]
        case None if not isinstance(found, dict | list):
            return []
        case dict() if found is None and at != "$":
            return []
        case _:
            return [f"{at} is {found!r}"]


@dataclass
class Scene:
    """A node with some history, and files for its commands.

    Args:
        files: Where bundles, keys and a recipe are.
    """

    node: Node
    files: Path

    def appb(self, words: str) -> list[str]:
        """Put paths into a command line."""
        words = words.replace("FILES", str(self.files))
        return words.replace("HASH", first_root(self.files / "repo")).split()


@pytest.fixture
def scene(node: Node, memory: Path, bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> Scene:
    """Have a node with hello 1.0 to 3.0 (2.0 is current, 3.0 pinned), and files."""
    files = memory / "files"
    files.mkdir()
    for number in (1, 2, 3, 4):
        made = files / f"hello-{number}.0.bundle"
        made.write_bytes(bundle("hello", number).read_bytes())
        if number < 4:
            node.install(made, switch_to=number < 3)
    make_bundle(files, "web", "1.0", as_directory=True)
    declared = (Setting(name="port", type="port", default="80"), Setting(name="key", secret=True))
    make_bundle(files, "set", "1.0", settings=declared)
    make_recipe(files / "recipe")
    (files / "team").write_bytes(KEY_FILE)
    (files / "node.toml").write_text("[apps]\nset = { settings = { port = 81 } }\n")
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    monkeypatch.setenv("APPB_CACHE", str(memory / "cache"))
    monkeypatch.chdir(files)
    Publisher(files).publish(files / "set-1.0.bundle")
    use(node.layout, files / "repo", "site")
    scene = Scene(node, files)
    for words in (
        "key new --no-passphrase FILES/key",
        "pin hello@3.0",
        "install FILES/set-1.0.bundle",
        "hold set --reason why",
    ):
        assert run_cli(node, *scene.appb(words)).status == 0
    node.layout.allowed_signers.open("a").write("not a line\n")
    tree = node.version("hello", "1.0")
    for name in ("dev", "proc", "run", "tmp", "var/lib/hello"):
        (tree / name).mkdir(parents=True)
    return scene


COMMANDS = {
    "list": "list",
    "history": "history",
    "install": "install FILES/hello-4.0.bundle",
    "upgrade": "upgrade",
    "apply": "apply FILES/node.toml",
    "outdated": "outdated",
    "hold": "hold hello --reason why --until 2100-01-01",
    "unhold": "unhold set",
    "switch": "switch hello@1.0",
    "set": "set set port=81",
    "unset": "unset set key",
    "get": "get set",
    "remove": "remove hello@1.0",
    "gc": "gc --keep 0 --older-than 0",
    "pin": "pin hello@1.0",
    "unpin": "unpin hello@3.0",
    "info": "info FILES/hello-1.0.bundle",
    "info --statement": "info --statement hello",
    "info --signature": "info --signature 1 hello",
    "diff of versions": "diff hello@1.0 hello@2.0",
    "diff of generations": "diff 1 2",
    "verify": "verify",
    "repair": "repair FILES/hello-1.0.bundle",
    "stats": "stats",
    "run --dry-run": "run --dry-run hello@1.0 -- /bin/hello",
    "build": "build FILES/recipe --release 1.0 --key FILES/key --dir FILES/made",
    "sign": "sign FILES/hello-1.0.bundle --key FILES/key",
    "pack": "pack FILES/web-1.0 FILES/web.bundle",
    "export": "export hello@2.0 set FILES/stick",
    "unpack": "unpack FILES/hello-1.0.bundle FILES/unpacked",
    "key new": "key new --no-passphrase FILES/second",
    "key show": "key show FILES/key",
    "trust add": "trust add FILES/key.pub --for web-* --valid-after 2020-01-01",
    "trust list": "trust list",
    "publish": "publish FILES/hello-1.0.bundle --repo FILES/repo --key FILES/team",
    "repo refresh": "repo refresh FILES/repo",
    "repo sign": "repo sign FILES/repo --key FILES/team",
    "repo delegate": "repo delegate FILES/repo web --to FILES/key.pub --key FILES/team",
    "repo rotate": "repo rotate FILES/repo --root FILES/key.pub --key FILES/team",
    "repo add": "repo add file://FILES/repo#sha256=HASH --name other",
    "repo list": "repo list",
    "repo remove": "repo remove site",
    "search": "search",
    "trust remove": f"trust remove {KEY.public.fingerprint}",
}


SERVED = {
    *("status", "audit", "start", "stop", "restart", "switch --confirm", "switch --resume"),
    *("upgrade --schedule", "upgrade --unschedule"),
}
"""Commands that need services; tests/services/test_commands.py tries them on a booted node."""

PUSHED = {"repo push"}
"""What needs a registry; tests/flows/test_push.py tries it."""


def test_every_command_is_promised() -> None:
    """The page has a row for each command that prints a document, and each row is tried."""
    assert PROMISES.keys() == COMMANDS.keys() | SERVED | PUSHED


@pytest.mark.parametrize("row", COMMANDS)
@pytest.mark.parametrize("first", [True, False])
def test_document_has_the_promised_keys(scene: Scene, row: str, first: bool) -> None:
    """The document has exactly these keys, is all of stdout, and stderr is silent."""
    words = scene.appb(COMMANDS[row])
    at = 0 if first else words.index("--") if "--" in words else len(words)
    said = run_cli(scene.node, *words[:at], "--json", *words[at:])
    # The directories made above are damage, which verify is to report.
    assert said.status == (21 if row == "verify" else 0), said.stdout
    assert said.stderr == ""
    assert differences(said.document, parse(PROMISES[row])) == []


def test_run_is_described_with_all_its_keys(scene: Scene) -> None:
    """`info` of a bundle that declares a command has all of the command's keys too."""
    made = scene.files / "made"
    words = scene.appb("build FILES/recipe --release 1.0 --key FILES/key -o FILES/web.bundle")
    assert run_cli(scene.node, *words).status == 0
    assert run_cli(scene.node, "trust", "add", str(scene.files / "key.pub")).status == 0
    said = run_cli(scene.node, "--json", "info", str(scene.files / "web.bundle"))
    assert said.document["run"]["argv"] == ["/bin/web"]
    assert differences(said.document, parse(PROMISES["info"])) == []
    assert not made.exists()


@pytest.mark.parametrize(
    ("words", "kind"),
    [
        ("info nobody", "not-found"),
        ("install FILES/none.bundle", "not-found"),
        ("switch hello", "usage"),
        ("switch --to many", "usage"),
        ("nonsense", "usage"),
        ("--nonsense", "usage"),
        ("", "usage"),
        ("remove hello@2.0", "conflict"),
        ("verify FILES/recipe/recipe.toml", "corrupt"),
        ("run nobody", "not-found"),
        ("build FILES/nowhere", "not-found"),
        ("trust remove nobody", "not-found"),
    ],
)
def test_errors_are_documents_too(scene: Scene, words: str, kind: str) -> None:
    """An error has its four keys on stdout, nothing on stderr, and the exit code as without."""
    plain = run_cli(scene.node, *scene.appb(words))
    said = run_cli(scene.node, "--json", *scene.appb(words))
    assert said.status == plain.status != 0
    assert said.stderr == plain.stdout == ""
    assert differences(said.document, parse('{"error": {"kind", "what", "kept", "hint"}}')) == []
    assert said.document["error"]["kind"] == kind
    assert f"error: {said.document['error']['what']}".splitlines()[0] in plain.stderr


def test_issues_of_a_build_are_a_list(scene: Scene) -> None:
    """Where a build finds several things at once, each is an entry of its own."""
    for name in ("one", "two"):
        (scene.files / "recipe/files" / name).symlink_to("/nowhere/at/all")
    said = run_cli(scene.node, "--json", "build", str(scene.files / "recipe"))
    issues = said.document["error"]["issues"]
    assert len(issues) >= 2
    assert all(isinstance(each, str) for each in issues)


def test_json_after_dashes_belongs_to_the_command(scene: Scene) -> None:
    """What follows -- is the program's: its --json is passed on, and is not ours."""
    words = scene.appb("run --dry-run hello@1.0 -- /bin/hello --json")
    said = run_cli(scene.node, *words)
    assert said.status == 0
    assert said.stdout.rstrip().endswith("execute /bin/hello --json")
    with pytest.raises(json.JSONDecodeError):
        said.document  # noqa: B018


def test_document_survives_foreign_bytes(scene: Scene) -> None:
    """A name that is not text in any encoding still gives valid JSON."""
    tree = os.fsencode(scene.node.version("hello", "1.0"))
    with open(tree + b"/\xff\x1b[31m", "wb"):
        pass
    said = run_cli(scene.node, "--json", "verify", "hello@1.0")
    assert any("\x1b[31m" in each["path"] for each in said.document["problems"])
    assert said.stdout.isascii()
