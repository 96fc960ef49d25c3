"""The recipe of appb itself follows the project."""

import configparser
from pathlib import Path

import appbundle
from appbundle.build.recipe import read_recipe
from appbundle.build.sources.python import Python
from appbundle.names import OWN

REPOSITORY = Path(__file__).resolve().parents[2]


def test_recipe_has_this_release_with_what_it_requires() -> None:
    """Its newest release is this version of appb, and has the libraries that setup.cfg names."""
    recipe = read_recipe(REPOSITORY / "bundles/appb", release=None)
    assert (recipe.name, recipe.version) == (OWN, appbundle.__version__)
    (python,) = (each.source for each in recipe.sources if isinstance(each.source, Python))
    setup = configparser.ConfigParser()
    setup.read(REPOSITORY / "setup.cfg")
    required = setup["options"]["install_requires"].split()
    assert sorted(python.requirements) == sorted(required)
