"""Settings, templates and secrets on a node without services: what is on disk, shown and told."""

import io
import json
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from appbundle.bundle.services import Health, Service, Socket
from appbundle.bundle.settings import Setting, Template
from appbundle.bundle.tasks import Rollback, Task
from appbundle.errors import AppbError, ConflictError, ManifestError, NotFoundError, UsageError
from appbundle.flows import describe, settings
from appbundle.flows.describe import GenerationDiff
from appbundle.names import AppName
from appbundle.store.rendered import read
from tests.crash.support import Node, hello, make_bundle, run_cli

APP = AppName("hello")
DECLARED = (
    Setting(name="port", type="port", default="80"),
    Setting(name="debug", type="boolean", default="false"),
    Setting(name="title", default="none"),
    Setting(name="token", secret=True),
)
PUBLIC = Template(source="share/public.j2", target="share/public")
PRIVATE = Template(source="share/private.j2", target="share/private")
TREE = {
    "share/public.j2": b"{{ app }} {{ version }} {{ state }} port {{ port + 1 }} {{ title }}"
    b"{% if debug %} debug{% endif %}\n",
    "share/public": b"",
    "share/private.j2": b"token={{ token }}\n",
    "share/private": b"",
}

Make = Callable[..., Path]


@pytest.fixture
def make(memory: Path) -> Make:
    """Give bundles of an app with settings and two templates."""

    def made(number: int = 1, *, text: bytes = b"", **more: Any) -> Path:
        tree = hello(f"hello {number}") | TREE | ({"share/public.j2": text} if text else {})
        keys = {"settings": DECLARED, "templates": (PUBLIC, PRIVATE)} | more
        return make_bundle(memory, "hello", f"{number}.0", release=number, tree=tree, **keys)

    return made


@pytest.fixture
def used(node: Node, make: Make) -> Node:
    """A node with its first version."""
    node.install(make())
    return node


def rendered(node: Node, path: str = "public", number: str = "current") -> str:
    """A rendered file of a generation."""
    return (node.layout.generations / number / ".rendered/hello/share" / path).read_text()


def change(node: Node, *unset: str, **values: str) -> settings.Changed:
    """Set and unset."""
    return settings.change(node.context(), APP, values, unset=unset)


def secret(node: Node) -> str:
    """The secret's value now."""
    (found,) = settings.get(node.context(), APP, ["token"], reveal=True).values
    assert found.value is not None
    return found.value


def test_bundle_runs_with_its_defaults(used: Node) -> None:
    """Files are rendered at installation, from defaults, with integers as numbers."""
    assert rendered(used) == "hello 1.0 /var/lib/hello port 81 none\n"


def test_each_change_is_a_generation_and_going_back_undoes_it(used: Node) -> None:
    """A new value is in the current generation's files; the one before still has the old ones."""
    changed = change(used, port="8080", debug="true")
    assert changed.changed == ("port", "debug")
    assert rendered(used) == "hello 1.0 /var/lib/hello port 8081 none debug\n"
    change(used, "debug")
    assert rendered(used) == "hello 1.0 /var/lib/hello port 8081 none\n"
    used.previous()
    used.previous()
    assert rendered(used) == "hello 1.0 /var/lib/hello port 81 none\n"


@pytest.mark.parametrize(
    ("address", "host"), [("127.0.0.1", "127.0.0.1"), ("::1", "[::1]"), ("::", "[::]")]
)
def test_address_before_a_port(node: Node, make: Make, address: str, host: str) -> None:
    """An IPv6 address is put into brackets where a port follows, in declarations and templates."""
    setting = Setting(name="listen", type="address", default="127.0.0.1")
    service = Service(
        name="hello",
        argv=("/bin/hello", "{{ listen }}", "{{listen|host}}"),
        sockets=(Socket(name="http", listen="{{ listen | host }}:80"),),
        health=Health(http="http://{{ listen | host }}:80/"),
    )
    text = b"{{ listen }} {{ listen | host }}:80"
    node.install(make(text=text, settings=(*DECLARED, setting), services=(service,)))
    change(node, listen=address)
    (filled,) = read(node.layout, 2, APP).services
    assert filled.argv[1:] == (address, host)
    assert filled.sockets[0].listen == f"{host}:80"
    assert filled.health is not None
    assert filled.health.http == f"http://{host}:80/"
    assert rendered(node) == f"{address} {host}:80"


def test_setting_what_is_set_changes_nothing(used: Node) -> None:
    """The same value once more makes no generation, and neither does the same secret."""
    change(used, port="8080", token="open sesame")
    assert change(used, port="8080", token="open sesame").switched.outcome == "unchanged"
    assert used.looks().generations == (1, 2)


@pytest.mark.parametrize(
    ("values", "error"),
    [
        ({"port": "0"}, UsageError),
        ({"port": "80\nUser=root"}, UsageError),
        ({"title": "a\x1b[31m"}, UsageError),
        ({"debug": "yes"}, UsageError),
        ({"nothing": "1"}, NotFoundError),
    ],
)
def test_what_is_no_value_is_refused(
    used: Node, values: dict[str, str], error: type[AppbError]
) -> None:
    """A value of another type, or one that would break out of its line, changes nothing."""
    before = used.looks()
    with pytest.raises(error):
        change(used, **values)
    assert used.looks() == before


def test_value_is_never_a_template(used: Node) -> None:
    """What a setting says is text: nothing in it is evaluated."""
    change(used, title="{{ token }}{% raw %}%h$HOME")
    assert rendered(used).endswith("{{ token }}{% raw %}%h$HOME\n")


def test_new_version_keeps_settings_that_it_declares(used: Node, make: Make) -> None:
    """An upgrade drops what the new version does not know, and takes the rest and secrets along."""
    change(used, port="8080", title="mine")
    before = secret(used)
    fewer = tuple(each for each in DECLARED if each.name != "title")
    said = run_cli(used, "install", str(make(2, settings=fewer, text=b"{{ port }}\n")))
    assert rendered(used) == "8080\n"
    assert secret(used) == before
    assert "title = mine is dropped" in said.stderr


def test_sending_one_app_back_brings_its_settings_back(used: Node, make: Make) -> None:
    """`switch --previous APP` gives the app the settings that it had with that version."""
    change(used, port="8080")
    used.install(make(2))
    change(used, port="9090")
    used.previous("hello")
    assert rendered(used) == "hello 1.0 /var/lib/hello port 8081 none\n"


def test_secret_is_made_once(used: Node) -> None:
    """A secret that nobody has set is 32 random bytes, and stays until it is unset or set."""
    first = secret(used)
    assert len(first) == 43
    change(used, port="81")
    assert secret(used) == first
    change(used, "token")
    second = secret(used)
    assert second != first
    change(used, token="open sesame")
    assert secret(used) == "open sesame"
    used.previous()
    assert secret(used) == second


def test_secret_stands_nowhere_but_in_private_files(used: Node) -> None:
    """No command tells it, and no file that others may read has it."""
    change(used, token="open sesame")
    for words in ("get hello", "history", "diff 1 2", "info hello", "list", "verify"):
        for json_too in ((), ("--json",)):
            said = run_cli(used, *json_too, *words.split())
            assert "sesame" not in said.stdout + said.stderr, words
    found = []
    for here, _, names in os.walk(used.root):
        for path in (Path(here, name) for name in names):
            if not path.is_symlink() and b"sesame" in path.read_bytes():
                found.append(path)
                assert path.stat().st_mode & 0o077 == 0
                assert path.parent.stat().st_mode & 0o077 == 0 or "share" in path.parts
    assert sorted(each.name for each in found) == ["private", "token"]
    assert stat.S_IMODE((used.layout.rendered(2) / "hello").stat().st_mode) == 0o700


def test_differences_of_settings_are_shown(used: Node) -> None:
    """`diff` shows settings that differ; of a secret only that it does."""
    change(used, port="8080", token="open sesame")
    found = describe.diff(used.context(), "1", "2")
    assert isinstance(found, GenerationDiff)
    assert list(map(str, found.settings)) == [
        "hello port: (default) → 8080",
        "hello token: (secret) → (changed)",
    ]


def test_unchanged_files_are_shared(used: Node) -> None:
    """What a generation has as the one before is the same file."""
    change(used, debug="true")
    places = [used.layout.rendered(number) / "hello/share" for number in (1, 2)]
    assert os.path.samefile(places[0] / "private", places[1] / "private")
    assert not os.path.samefile(places[0] / "public", places[1] / "public")


def test_other_apps_keep_their_configuration(
    used: Node, bundle: Callable[[str, int], Path]
) -> None:
    """A generation in which only another app changes has the same files of this one."""
    change(used, port="8080")
    used.install(bundle("web", 1))
    assert rendered(used) == rendered(used, number="2")
    assert used.layout.secrets(3).joinpath("hello/token").exists()


@pytest.mark.parametrize(
    "text",
    [
        b"{{ nothing }}",
        b"{{ {}[token | upper] }}",
        b"{% include '/etc/passwd' %}",
        b"{{ ''.__class__.__mro__ }}",
        b"{% for i in range(10 ** 9) %}{% endfor %}",
        b"{{ 'a' * 10 ** 7 }}",
        b"{{ 'a' * 10 ** 10 }}",
        b"{{ (",
    ],
)
def test_bad_template_keeps_the_old_generation(used: Node, make: Make, text: bytes) -> None:
    """A template that cannot be rendered, or wants too much, is refused; nothing of it is left."""
    change(used, token="SESAME")
    before = used.looks()
    with pytest.raises(ConflictError) as refused:
        used.install(make(2, text=text))
    assert "SESAME" not in refused.value.what
    assert used.looks() == before
    assert used.leftovers() == []


@pytest.mark.slow
def test_template_that_never_ends_is_ended(used: Node, make: Make) -> None:
    """Loops in loops are ended by the clock."""
    text = b"{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"
    with pytest.raises(ConflictError, match="too long"):
        used.install(make(2, text=text))


@pytest.mark.parametrize(
    "more",
    [
        {"services": (Service(name="hello", argv=("/bin/hello", "{{ token }}")),)},
        {"services": (Service(name="hello", argv=("/x",), environment={"T": "{{token}}"}),)},
        {"tasks": (Task(when="migrate", argv=("/bin/hello", "{{ token }}")),)},
        {"services": (Service(name="hello", argv=("/bin/hello", "{{ nothing }}")),)},
        {"services": (Service(name="hello", argv=("/bin/hello", "{{ port + 1 }}")),)},
        {"services": (Service(name="task-migrate", argv=("/bin/hello",)),)},
        {"templates": (Template(source="share/none.j2", target="share/public"),)},
        {"settings": (Setting(name="state"),)},
    ],
)
def test_declaration_that_cannot_be_filled_in_is_refused(make: Make, more: dict[str, Any]) -> None:
    """No bundle shows a secret in a command line, or names what it does not have."""
    with pytest.raises(ManifestError):
        make(**more)


def test_dry_run_checks_and_changes_nothing(used: Node) -> None:
    """`set -n` says what would change, and refuses what would be refused."""
    said = run_cli(used, "--json", "set", "-n", "hello", "port=8080")
    assert said.document["outcome"] == "planned"
    assert said.document["changed"] == ["port"]
    assert run_cli(used, "set", "-n", "hello", "port=many").status == 2
    assert used.looks().generations == (1,)


def test_secret_on_a_command_line_is_refused(used: Node) -> None:
    """A secret comes from a file or standard input; the refusal does not repeat it."""
    said = run_cli(used, "set", "hello", "token=sesame")
    assert said.status == 2
    assert "sesame" not in said.stderr


@pytest.mark.parametrize("how", ["file", "input"])
def test_secret_from_elsewhere(
    used: Node, memory: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """The newline at the end of a file or of standard input is not part of the value."""
    raw = b"open sesame\n"
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(raw)))
    file = memory / "value"
    file.write_bytes(raw)
    words = ["--from-file", f"token={file}"] if how == "file" else ["token=-"]
    assert run_cli(used, "set", "hello", *words).status == 0
    assert secret(used) == "open sesame"


def test_get_tells_where_values_come_from(used: Node) -> None:
    """Each value is shown with its source; a single one alone, for scripts."""
    change(used, port="8080")
    found = run_cli(used, "--json", "get", "hello").document["settings"]
    assert [(each["name"], each["value"], each["source"]) for each in found] == [
        ("port", "8080", "set"),
        ("debug", "false", "default"),
        ("title", "none", "default"),
        ("token", None, "made"),
    ]
    assert run_cli(used, "get", "hello", "port").stdout == "8080\n"
    assert run_cli(used, "get", "hello", "token").stdout == "(secret)\n"


def test_removed_app_keeps_its_secrets_with_its_state(used: Node, make: Make) -> None:
    """State may be worthless without them; --purge removes both."""
    first = secret(used)
    used.remove("hello")
    used.install(make())
    assert secret(used) == first
    used.remove("hello", purge=True)
    held = [
        path
        for path in used.layout.private.rglob("*")
        if path.is_file() and first.encode() in path.read_bytes()
    ]
    assert held == []
    used.install(make())
    assert secret(used) != first


def test_purge_removes_every_directory(used: Node) -> None:
    """State, cache, logs and what is in /run go; of other apps nothing does."""
    places = [used.root / place for place in ("var/lib", "var/cache", "var/log", "run")]
    for place in places:
        for name in ("hello", "other"):
            (place / name / "inner").mkdir(parents=True)
    used.remove("hello", purge=True)
    assert [[each.name for each in place.iterdir()] for place in places] == [["other"]] * 4


def test_forbidden_way_back_is_refused_in_every_form(node: Node, make: Make) -> None:
    """Where a release forbids going back from it, nothing does, and the reason is said."""
    rule = Rollback(below=2, kind="forbidden", reason="the tables are gone")
    node.install(make())
    node.install(make(2, rollback=(rule,)))
    before = node.looks()
    for words in (
        "switch --previous",
        "switch --previous hello",
        "switch --to 1",
        "switch hello@1.0",
        "switch -n hello@1.0",
        f"install --allow-downgrade {make()}",
    ):
        said = run_cli(
            node, "--json", *words.split(), *(["--accept-loss"] if "switch" in words else [])
        )
        assert said.status == 1, words
        assert said.document["error"]["kind"] == "conflict"
        assert "the tables are gone" in said.document["error"]["what"]
    assert node.looks() == before


def test_loss_is_said_and_must_be_accepted(node: Node, make: Make) -> None:
    """Going back with state needs a snapshot and a yes; a dry run says what would be lost."""
    rule = Rollback(below=2, kind="with-state", reason="all rows that are newer")
    node.install(make())
    node.install(make(2, rollback=(rule,)))
    assert "no snapshot" in run_cli(node, "switch", "--previous").stderr
    (node.layout.state(APP) / ".snapshots/1.0").mkdir(parents=True)
    planned = json.loads(run_cli(node, "--json", "switch", "-n", "--previous").stdout)
    assert "all rows that are newer" in planned["losses"][0]
    refused = run_cli(node, "switch", "--previous")
    assert (refused.status, node.looks().current) == (1, 2)
    assert "all rows that are newer" in refused.stderr
    assert run_cli(node, "switch", "--previous", "--accept-loss").status == 0
    assert node.looks().current == 1


def test_snapshot_goes_with_its_version(node: Node, make: Make) -> None:
    """A snapshot is only good for the version that made it; links in its way are not followed."""
    node.install(make())
    node.install(make(2))
    kept = node.layout.state(APP) / ".snapshots"
    for name in ("1.0", "2.0"):
        (kept / name / "inner").mkdir(parents=True)
    node.remove("hello@1.0")
    assert [each.name for each in kept.iterdir()] == ["2.0"]
    elsewhere = node.root / "elsewhere"
    kept.rename(elsewhere)
    kept.symlink_to(elsewhere)
    node.install(make(3))
    node.remove("hello@2.0")
    assert (elsewhere / "2.0/inner").is_dir()


# Secrets of others --------------------------------------------------------------------------------

ACCOUNTS = Template(source="share/accounts.j2", target="share/accounts")
OWNER: dict[str, Any] = {
    "settings": (Setting(name="seed", secret=True, shared=True),),
    "templates": (ACCOUNTS,),
    "tree": hello("owner")
    | {"share/accounts.j2": b"{{ seed | for_app('hello') }}\n", "share/accounts": b""},
}
TOLD = (Setting(name="token", secret=True, of="owner/seed"),)


def account(node: Node) -> str:
    """What the owner holds to be the app's secret."""
    return (node.layout.generations / "current/.rendered/owner/share/accounts").read_text().strip()


@pytest.fixture
def both(node: Node, make: Make, memory: Path) -> Node:
    """A node with an app, and one whose secret it is told of, installed together."""
    node.install(make_bundle(memory, "owner", "1.0", **OWNER), make(settings=TOLD, templates=()))
    return node


def test_secret_is_made_of_another_apps(both: Node) -> None:
    """An app is told what is made of a shared secret for it alone; the owner knows the same."""
    seed = both.layout.secrets(1).joinpath("owner/seed").read_text()
    assert secret(both) == account(both)
    assert len(secret(both)) == 43
    assert secret(both) != seed


def test_secret_follows_its_owners(both: Node) -> None:
    """When the shared secret is made anew, so is what is made of it; going back undoes both."""
    first = secret(both)
    settings.change(both.context(), AppName("owner"), {}, unset=("seed",))
    assert secret(both) == account(both)
    assert secret(both) != first
    both.previous()
    assert secret(both) == first == account(both)


def test_secret_that_is_set_is_made_of_nothing(both: Node) -> None:
    """What an administrator has set stays until it is unset."""
    first = secret(both)
    change(both, token="mine")
    settings.change(both.context(), AppName("owner"), {}, unset=("seed",))
    assert secret(both) == "mine"
    change(both, "token")
    assert secret(both) == account(both) != first


def test_owner_may_come_later_and_go(node: Node, make: Make, memory: Path) -> None:
    """Without the owner a secret is random; then it is made of it, and stays when that goes."""
    node.install(make(settings=TOLD, templates=()))
    first = secret(node)
    node.install(make_bundle(memory, "owner", "1.0", **OWNER))
    second = secret(node)
    assert second == account(node) != first
    node.remove("owner")
    assert secret(node) == second


def test_secret_that_is_not_shared_is_not_told(node: Node, make: Make, memory: Path) -> None:
    """Only what its owner shares is made into secrets of others."""
    alone = OWNER | {"settings": (Setting(name="seed", secret=True),)}
    node.install(make_bundle(memory, "owner", "1.0", **alone), make(settings=TOLD, templates=()))
    assert secret(node) != account(node)


def test_being_told_a_secret_is_said(node: Node, make: Make, memory: Path) -> None:
    """Whoever installs an app is told of whose secret it is told."""
    owner = make_bundle(memory, "owner", "1.0", **OWNER)
    told = make(settings=TOLD, templates=())
    said = run_cli(node, "install", "-n", str(owner), str(told)).stdout
    assert "hello 1.0: is told what is made for it of the secret owner/seed" in said


@pytest.mark.parametrize(
    "wrong",
    [
        Setting(name="x", shared=True),
        Setting(name="x", secret=True, shared=True, of="owner/seed"),
        Setting(name="x", secret=True, of="owner"),
        Setting(name="x", secret=True, of="../seed"),
        Setting(name="x", secret=True, of="owner/../seed"),
        Setting(name="x", of="../seed"),
    ],
)
def test_only_secrets_are_shared(make: Make, wrong: Setting) -> None:
    """A manifest that shares what is none, or names no app's secret, is refused."""
    with pytest.raises(ManifestError, match="setting x"):
        make(settings=(wrong,), templates=())


# Values of others ---------------------------------------------------------------------------------

PORT = Setting(name="port", type="port", default="3306")
FOLLOWS = Setting(name="port", type="port", default="80", of="owner/port")
Owner = Callable[..., Path]


@pytest.fixture
def owner(memory: Path) -> Owner:
    """Give bundles of an app whose settings others take."""

    def made(*declared: Setting, number: int = 1) -> Path:
        return make_bundle(
            memory,
            "owner",
            f"{number}.0",
            release=number,
            tree=hello("owner"),
            settings=declared,
        )

    return made


def own(node: Node, *unset: str, **values: str) -> settings.Changed:
    """Set and unset of the owner."""
    return settings.change(node.context(), AppName("owner"), values, unset=unset)


def taken(node: Node, key: str = "port") -> tuple[str | None, str]:
    """A value of the app that takes, and where it is from."""
    (found,) = settings.get(node.context(), APP, [key]).values
    return found.value, found.source


def follows(make: Make, *declared: Setting, number: int = 1) -> Path:
    """A bundle that shows the port it takes."""
    return make(number, settings=declared, text=b"{{ port }}", templates=(PUBLIC,))


def test_setting_has_another_apps_value(node: Node, make: Make, owner: Owner) -> None:
    """It follows what is set there, back too, unless somebody sets it here."""
    node.install(owner(PORT), follows(make, FOLLOWS))
    assert (rendered(node), taken(node)) == ("3306", ("3306", "of"))
    own(node, port="3307")
    assert (rendered(node), taken(node)) == ("3307", ("3307", "of"))
    change(node, port="9")
    own(node, port="3308")
    assert (rendered(node), taken(node)) == ("9", ("9", "set"))
    change(node, "port")
    assert (rendered(node), taken(node)) == ("3308", ("3308", "of"))
    node.previous()
    assert (rendered(node), taken(node)) == ("9", ("9", "set"))


def test_setting_has_its_default_without_the_other_app(
    node: Node, make: Make, owner: Owner
) -> None:
    """The other app may come later, stop declaring the setting, and go."""
    node.install(follows(make, FOLLOWS))
    assert taken(node) == ("80", "default")
    node.install(owner(PORT))
    assert (rendered(node), taken(node)) == ("3306", ("3306", "of"))
    node.install(owner(Setting(name="address"), number=2))
    assert (rendered(node), taken(node)) == ("80", ("80", "default"))
    node.install(owner(PORT, number=3))
    node.remove("owner")
    assert (rendered(node), taken(node)) == ("80", ("80", "default"))


def test_values_are_taken_along_chains_and_in_circles(node: Node, make: Make, owner: Owner) -> None:
    """What is taken may be taken itself; in a circle each has its own default, till one is set."""
    back = Setting(name="port", type="port", default="81", of="hello/other")
    other = Setting(name="other", type="port", default="82", of="owner/port")
    node.install(owner(back), follows(make, FOLLOWS, other))
    assert (taken(node), taken(node, "other")) == (("81", "of"), ("82", "default"))
    change(node, other="9")
    assert taken(node) == ("9", "of")


@pytest.mark.parametrize(
    ("declared", "why"),
    [
        (Setting(name="port", default="many"), "many: not a port"),
        (Setting(name="port", default=""), "not a port"),
        (Setting(name="port", secret=True), "a secret"),
        (Setting(name="port", secret=True, shared=True), "a secret"),
    ],
)
def test_what_cannot_be_taken_is_refused(
    node: Node, make: Make, owner: Owner, declared: Setting, why: str
) -> None:
    """A secret, or a value of another type, is refused whoever comes last; nothing changes."""
    node.install(follows(make, FOLLOWS))
    before = node.looks()
    with pytest.raises(ConflictError, match=why):
        node.install(owner(declared))
    assert node.looks() == before
    change(node, port="9")
    node.install(owner(declared))
    assert taken(node) == ("9", "set")


def test_value_that_others_cannot_have_is_not_set(node: Node, make: Make, owner: Owner) -> None:
    """`set` refuses what a setting that follows could not be, in a dry run too."""
    node.install(owner(Setting(name="port", default="80")), follows(make, FOLLOWS))
    before = node.looks()
    for dry in ((), ("-n",)):
        said = run_cli(node, "set", *dry, "owner", "port=many")
        assert said.status == 1
        assert "hello 1.0: port is that of owner/port, which is many: not a port" in said.stderr
    assert node.looks() == before


def test_following_is_said(node: Node, make: Make, owner: Owner) -> None:
    """`set` says what follows; `get`, `info` and `diff` say of what a value is."""
    node.install(owner(PORT), follows(make, FOLLOWS))
    said = run_cli(node, "set", "owner", "port=3307")
    assert "hello port: 3306 → 3307" in said.stderr
    (found,) = run_cli(node, "--json", "get", "hello").document["settings"]
    assert (found["value"], found["source"], found["of"]) == ("3307", "of", "owner/port")
    assert "owner/port" in run_cli(node, "get", "hello").stdout
    assert "80 (port), that of owner/port" in run_cli(node, "info", "hello").stdout
    differs = describe.diff(node.context(), "1", "2")
    assert isinstance(differs, GenerationDiff)
    assert "hello port: 3306 → 3307" in map(str, differs.settings)
