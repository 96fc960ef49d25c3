"""What the fast path does by itself agrees with what the rest of appb does."""

import contextlib
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appbundle import layout, names
from appbundle.cli import run as cli
from appbundle.errors import UsageError
from appbundle.flows import run as flow
from appbundle.runtime import installed
from appbundle.runtime.plan import Place, Service, User, plan, state_path
from appbundle.runtime.value import Value

_NEARLY_REFS = st.text(alphabet="aZ9-@.+~_/\n é", max_size=30) | st.from_regex(
    r"[a-z0-9-]{0,28}(@[0-9A-Za-z.+~_-]{0,65})?(/[a-z0-9-]{0,28})?", fullmatch=True
)


@given(_NEARLY_REFS)
def test_references_are_judged_as_everywhere(text: str) -> None:
    """The quick check accepts exactly what `names` does, with the same parts."""
    expected = None
    whole, slash, service = text.partition("/")
    with contextlib.suppress(UsageError):
        ref = names.parse_ref(whole)
        expected = (ref.name, ref.version or "", names.parse_app_name(service) if slash else "")
    if expected is None:
        with pytest.raises(UsageError):
            flow.parse_ref(text)
    else:
        assert flow.parse_ref(text) == expected


def test_paths_are_the_layouts() -> None:
    """Paths spelt out for speed are those of `Layout`."""
    node = layout.Layout(Path("/node"))
    name, version = names.AppName("hello"), names.Version("1.0")
    assert installed.tree_path("/node", name, version) == str(node.version(name, version))
    assert f"/node/{state_path(name)}" == str(node.state(name))
    assert layout.BUNDLE_DIR == ".bundle"
    assert layout.ABOUT == "about.json"
    assert str(node.current_generation) == "/node/apps/.appb/generations/current"


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(_JSON)
def test_json_is_read_as_json_does(value: object) -> None:
    """Decoding without the json package gives the same values."""
    assert installed.decode(json.dumps(value, indent=1).encode()) == value


@pytest.mark.parametrize("raw", [b"", b"{", b'{"a":}', b"1 2", b"\xff", b"nul", b'"\n"'])
def test_broken_json_is_a_value_error(raw: bytes) -> None:
    """As with json.loads."""
    with pytest.raises(ValueError):
        installed.decode(raw)


@pytest.mark.parametrize(
    "line",
    [
        "list",
        "",
        "run",
        "run --help",
        "run a b",
        "run --unknown a",
        "--lock-timeout 1 run a",
        "run -- x",
    ],
)
def test_everything_unusual_is_left_to_click(line: str) -> None:
    """The fast path answers only what it fully understands."""
    assert cli.fast(line.split()) is None


class _Point(Value):
    x: int
    y: int = 2


def test_values_are_frozen_and_compared_by_fields() -> None:
    """As frozen dataclasses."""
    assert _Point(x=1) == _Point(x=1, y=2) != _Point(x=1, y=3)
    assert hash(_Point(x=1)) == hash(_Point(x=1))
    assert repr(_Point(x=1)) == "_Point(x=1, y=2)"
    with pytest.raises(AttributeError):
        _Point(x=1).x = 5  # type: ignore[misc]
    with pytest.raises(TypeError, match="needs x"):
        _Point()  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="no field z"):
        _Point(x=1, z=1)  # type: ignore[call-arg]


def test_plan_names_the_version_never_a_link() -> None:
    """A plan says all that will happen, in order; the tree comes first, exec last."""
    service = Service(name="hello", argv=("/bin/x", "-v"), environment=(("HOME", "/elsewhere"),))
    user = User(name="appb-hello", uid=61206, gid=61206)
    steps = plan(service, user, Place(root="/", tree="/apps/hello/1.0")).describe()
    assert steps[-1] == "execute /bin/x -v"
    assert "set HOME=/elsewhere" in steps
    assert "bind /var/lib/hello at /var/lib/hello (rw,nosuid,nodev)" in steps
    order = [
        "take /apps/hello/1.0",
        "make the tree the root",
        "become user",
        "drop all",
        "change to",
    ]
    places = [next(i for i, step in enumerate(steps) if step.startswith(o)) for o in order]
    assert places == sorted(places)
