"""Every example of README.md and docs/ gives what the page shows."""

import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from appbundle.repository.registry.docker_config import Credentials
from tests.docs import console
from tests.docs.place import REPOSITORY, Place
from tests.repository.docker_registry import docker_registry, htpasswd

# Pages below docs/commands/ are made of docs/notes/, which run in their stead.
PAGES = [
    path
    for path in (REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").rglob("*.md")))
    if path.parent.name != "commands"
]
_TOOLS = ("bsdtar", "ssh-agent", "ssh-keygen", "strace", "zstd")


def of_page(path: Path) -> list[console.Command]:
    """The commands of a page that are run."""
    page = path.read_text()
    return [
        command
        for block in console.blocks(page)
        if block.is_run
        for command in console.commands(block)
    ]


@pytest.mark.parametrize(
    "path",
    [path for path in PAGES if of_page(path)],
    ids=lambda path: str(path.relative_to(REPOSITORY)),
)
def test_examples_give_what_is_shown(path: Path, place_with: Callable[[str], Place]) -> None:
    """Each command succeeds, or shows its failure, and prints what stands below it."""
    page = of_page(path)
    skip_without_means(page)
    place = place_with(console.given(path.read_text()))
    with registry(page, place) as more:
        environment = place.environment | more
        outcomes = console.run(page, directory=place.work, environment=environment)
    wrong = []
    for outcome, following in zip(outcomes, [*page[1:], None], strict=True):
        where = f"line {outcome.command.line}: $ {outcome.command.text}\n{outcome.output}"
        if not console.agrees(outcome):
            wrong.append(f"{where}(not what is shown)")
        if not console.succeeded(outcome, following):
            wrong.append(f"{where}(status {outcome.status}, and no `$ echo $?` says so)")
    assert not wrong, "\n".join(wrong)


@contextmanager
def registry(page: list[console.Command], place: Place) -> Iterator[dict[str, str]]:
    """Run a registry for a page that names REGISTRY; gives the variable."""
    if not needs_registry(page):
        yield {}
        return
    directory = place.base / "registry"
    directory.mkdir()
    auth = htpasswd(directory / "passwords", Credentials(user="team", secret="secret"))
    with docker_registry(directory, auth=auth) as running:
        yield {"REGISTRY": f"127.0.0.1:{running.port}"}


def needs_registry(page: list[console.Command]) -> bool:
    """Whether a page speaks to one."""
    return any("$REGISTRY" in command.text for command in page)


def skip_without_means(page: list[console.Command]) -> None:
    """Skip a page that this machine lacks privileges or tools for."""
    text = "\n".join(command.text for command in page)
    if os.geteuid() != 0 and re.search(r"appb run (?!.*--dry-run)", text):
        pytest.skip("needs root: namespaces")
    missing = [tool for tool in _TOOLS if tool in text and not shutil.which(tool)]
    if needs_registry(page) and not shutil.which("docker-registry"):
        missing.append("docker-registry")
    if missing:
        pytest.skip(f"needs {', '.join(missing)}")


@pytest.mark.parametrize(
    ("expected", "output", "same"),
    [
        (("a",), "a\n", True),
        (("a",), "a", True),
        (("a",), "a\nb\n", False),
        ((), "a\n", False),
        (("a", "..."), "a\n", True),
        (("a", "...", "d"), "a\nb\nc\nd\n", True),
        (("a", "..."), "b\n", False),
        (("size … MB",), "size 1.0 MB\n", True),
        (("size … MB",), "size 1\n2 MB\n", False),
        (("a.b",), "axb\n", False),
    ],
)
def test_comparison_can_fail(expected: tuple[str, ...], output: str, same: bool) -> None:
    """`...` stands for whole lines, `…` for text within one, and all else for itself."""
    command = console.Command(line=1, text="true", expected=expected)
    assert console.agrees(console.Outcome(command=command, output=output, status=0)) is same
