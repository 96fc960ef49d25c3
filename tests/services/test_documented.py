"""Examples of the documentation that need running services, on a booted systemd."""

import shutil
import sys
from pathlib import Path

import pytest

from tests.docs import console
from tests.docs.place import REPOSITORY
from tests.docs.test_help import examples, is_serving
from tests.docs.test_pages import EVERY
from tests.services.apps import web
from tests.services.conftest import Fleet

pytestmark = [pytest.mark.root, pytest.mark.slow]

SERVICES = REPOSITORY / "docs/services.md"


def documented() -> list[str]:
    """Every command line of a block that is marked so, and of --help."""
    found = dict.fromkeys(each for each in examples() if is_serving(each))
    for page in EVERY:
        for block in console.blocks(page.read_text()) if page != SERVICES else ():
            if block.mark == "booted":
                found |= dict.fromkeys(each.text for each in console.commands(block))
    return list(found)


def test_documented_commands_work(fleet: Fleet) -> None:
    """Each of them does its work on a node whose nova-api was upgraded."""
    service = web("nova-api")
    fleet.install(service, name="nova-api", version="34.0.0", release=1)
    fleet.install(service, name="nova-api", version="33.0.2", release=2)
    path = f"PATH={Path(sys.executable).parent}:$PATH"
    for command in documented():
        # What follows a log for ever has shown enough after a second; limits may have no
        # controller here, which `audit` says with its exit code.
        words = f"timeout 1 {command} || true" if " -f " in command else command
        words += " || true" if command.startswith("appb audit") else ""
        said = fleet.node.run("bash", "-c", f"{path}; cd /; {words}")
        assert said.status == 0, (command, said)


def test_page_of_services_gives_what_is_shown(fleet: Fleet) -> None:
    """The page's recipe builds, and its commands print what stands below them."""
    blocks = list(console.blocks(SERVICES.read_text()))
    (recipe,) = (each for each in blocks if each.language == "toml")
    directory = fleet.node.scratch / "page"
    write_recipe(directory / "web", "\n".join(recipe.lines), fleet.program)
    page = [c for each in blocks if each.mark == "booted" for c in console.commands(each)]
    outcomes = console.run(
        page,
        directory=Path("/"),
        environment={
            "HOME": str(directory),
            "LANG": "C.UTF-8",
            "PATH": f"{Path(sys.executable).parent}:/usr/sbin:/usr/bin:/sbin:/bin",
        },
        within=("nsenter", "-t", str(fleet.node.pid), "-a", "--", "env", "-C", str(directory)),
    )
    wrong = [
        f"line {each.command.line}: $ {each.command.text}\n{each.output}(status {each.status})"
        for each, following in zip(outcomes, [*page[1:], None], strict=True)
        if not console.agrees(each) or not console.succeeded(each, following)
    ]
    assert not wrong, "\n".join(wrong)


def write_recipe(directory: Path, recipe: str, program: Path) -> None:
    """Write a recipe of the tests' server with the files that the page tells of."""
    for version, mode in (("1.0", "ok"), ("2.0", "ok"), ("3.0", "error")):
        share = directory / f"files-{version}/share"
        share.mkdir(parents=True)
        (share / "version").write_text(f"web {version}\n")
        (share / "mode").write_text(f"{mode}\n")
    (directory / "files/bin").mkdir(parents=True)
    shutil.copy(program, directory / "files/bin/web")
    (directory / "recipe.toml").write_text(recipe)
