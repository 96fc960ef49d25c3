"""Pages are complete: every example is run or marked, every link leads somewhere."""

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest

from tests.docs import console
from tests.docs.place import REPOSITORY
from tests.docs.test_examples import PAGES

DOCS = REPOSITORY / "docs"
COMMAND_PAGES = sorted((DOCS / "commands").glob("*.md"))
EVERY = [*PAGES, *COMMAND_PAGES, REPOSITORY / "CONTRIBUTING.md", REPOSITORY / "CHANGELOG.md"]

ELSEWHERE = ("demo", "booted", "machine")
"""Marks of blocks that something else runs; tests/docs/console.py says what."""

_CALL = re.compile(r"^\s*(?:\$ )?(?:sudo |[A-Z_]+=\S+ |.*\| )*appb\s", re.MULTILINE)
_LINK = re.compile(r"(?<!\!)\[[^\]]+\]\(([^)\s]+)\)")
_TEST = re.compile(r"`(tests/[\w/]+\.py)(?:::(\w+))?`")
_SHORT = {"names", "frames", "numbers", "signatures"}
"""In docs/security.md: tests/hostile/test_names.py and so on, whose cases begin with the row."""
# What belongs to one machine, or to where packages are fetched from.
_PRIVATE = re.compile(
    rf"{re.escape(str(REPOSITORY))}|/root/|/home/\w|/tmp/pytest|(?:pypi|pythonhosted|debian|docker)\.(?:org|io)\b"
)


def name(path: Path) -> str:
    """A page's name for people."""
    return str(path.relative_to(REPOSITORY))


def problems(find: Callable[[Path, str], Iterable[object]]) -> dict[str, list[object]]:
    """Ask a question of every page; gives the pages that have something to answer."""
    found = {name(path): list(find(path, path.read_text())) for path in EVERY}
    return {page: each for page, each in found.items() if each}


def test_no_example_is_left_out() -> None:
    """A block that calls appb is run, or marked as run elsewhere, or is a command's help."""
    assert not problems(
        lambda path, page: (block for block in not_run(page) if not is_help(path, block))
    )


def not_run(page: str) -> Iterator[console.Block]:
    """Blocks that call appb and that nobody runs."""
    for block in console.blocks(page):
        if not (block.is_run or block.mark in ELSEWHERE) and _CALL.search("\n".join(block.lines)):
            yield block


def is_help(path: Path, block: console.Block) -> bool:
    """Whether a block is the text of --help; `test_help.py` looks at its examples."""
    return path in COMMAND_PAGES and block.language == "text" and block.lines[0][:6] == "Usage:"


def test_demo_runs_what_is_marked_as_its() -> None:
    """A block that a demo stands for names scripts that CI calls, or commands of a demo."""
    demos = (REPOSITORY / "scripts" / name for name in ("demo", "demo-openstack"))
    demo = "".join(path.read_text() for path in demos)
    ci = (REPOSITORY / ".ci/run").read_text()

    def strange(_: Path, page: str) -> Iterator[str]:
        for block in console.blocks(page):
            for command in console.commands(block) if block.mark == "demo" else ():
                program, *words = command.text.split()
                if program not in ci if program != "appb" else f"appb {words[0]}" not in demo:
                    yield command.text

    assert not problems(strange)


def test_links_lead_somewhere() -> None:
    """Every link to a file of the project leads to one, and to a heading that it has."""

    def dead(path: Path, page: str) -> Iterator[str]:
        # Notes become pages in docs/commands/, from where their links count.
        base = DOCS / "commands" if path.parent.name == "notes" else path.parent
        for link in _LINK.findall(page):
            file, _, heading = link.partition("#")
            target = Path(os.path.normpath(base / file)) if file else path
            if "://" in link:
                continue
            if not target.exists() or (heading and heading not in headings(target)):
                yield link

    assert not problems(dead)


def headings(path: Path) -> set[str]:
    """The anchors of a page's headings, as forges make them."""
    titles = re.findall(r"^#+ (.+)$", path.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def test_named_tests_exist() -> None:
    """A test that a page names as evidence exists."""

    def gone(_: Path, page: str) -> Iterator[str]:
        for file, test in _TEST.findall(page):
            source = REPOSITORY / file
            if not source.exists() or (test and f"def {test}(" not in source.read_text()):
                yield f"{file}::{test}"

    assert not problems(gone)


def test_no_machine_is_named() -> None:
    """No page names a directory of somebody's machine, or a host that packages come from."""
    assert not problems(lambda _, page: _PRIVATE.findall(page))


def test_every_attack_has_its_row() -> None:
    """docs/security.md answers each attack, and names a test that has it."""
    asked = {*range(1, 51), *range(53, 62), 63, 66, 67}
    page = (DOCS / "security.md").read_text()
    found: dict[int, str] = {}
    for numbers, evidence in re.findall(r"^\| ([\d, ]+) \|.*\| ([^|]+) \|$", page, re.MULTILINE):
        found |= {int(number): evidence for number in numbers.split(",")}
    assert found.keys() == asked
    for number, evidence in found.items():
        assert _TEST.search(evidence) or set(evidence.split(", ")) & _SHORT
        for word in _SHORT & set(evidence.split(", ")):
            source = (REPOSITORY / f"tests/hostile/test_{word}.py").read_text()
            assert f'"{number}-' in source, f"row {number} in {word}"


def test_command_pages_are_up_to_date() -> None:
    """docs/commands/ is what scripts/docs makes of --help and docs/notes/."""
    finished = subprocess.run(
        [sys.executable, REPOSITORY / "scripts/docs", "--check"],
        env={"PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (finished.returncode, finished.stdout) == (0, ""), finished.stderr


def test_command_pages_have_all_sections() -> None:
    """A command's page says what a man page does."""
    asked = ["Description", "Examples", "Exit codes", "Files", "See also"]
    incomplete = {}
    for path in (DOCS / "notes").glob("[a-z]*.md"):
        found = re.findall(r"^## (.+)$", path.read_text(), re.MULTILINE)
        if [each for each in found if each in asked] != asked:
            incomplete[name(path)] = found
    assert not incomplete


def test_index_names_every_page() -> None:
    """docs/README.md links to each page of docs/, so that none is forgotten."""
    index = (DOCS / "README.md").read_text()
    pages = [*DOCS.glob("*.md"), *(DOCS / "decisions").glob("*.md")]
    missing = [
        str(page.relative_to(DOCS))
        for page in pages
        if page.name != "README.md" and f"({page.relative_to(DOCS)})" not in index
    ]
    assert not missing


@pytest.mark.parametrize(
    ("page", "caught"),
    [
        ("```console\n$ appb list\n```", 0),
        ("```sh\nappb list\n```", 1),
        ("```\n$ APPB_ROOT=x appb list\n```", 1),
        ("text\n\n    cat x | appb install -\n", 1),
        ("<!-- run: demo -->\n```console\n$ appb build bundles/nova-api\n```", 0),
        ("<!-- run: demo -->\n\ntext\n\n```sh\nappb list\n```", 1),
        ("```text\nkey appb is a word here\n```", 0),
    ],
)
def test_left_out_examples_are_found(page: str, caught: int) -> None:
    """The search for examples that nobody runs finds fenced and indented ones."""
    assert len(list(not_run(page))) == caught
