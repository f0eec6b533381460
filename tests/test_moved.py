"""Old import paths: each works for one release, with a warning that names the new one."""

from __future__ import annotations

import importlib
import sys

import pytest

import slimformer
from slimformer.moved import MOVED, RENAMED


@pytest.fixture(autouse=True)
def without_old_modules():
    """Old modules are imported anew, since only the first import warns."""
    for name in MOVED:
        sys.modules.pop(name, None)
    yield
    for name in MOVED:
        sys.modules.pop(name, None)


@pytest.mark.parametrize("old", sorted(MOVED))
def test_an_old_module_imports_with_a_warning_that_names_the_new_ones(old) -> None:
    with pytest.warns(DeprecationWarning, match=f"{old} is now {MOVED[old][0]}"):
        module = importlib.import_module(old)
    for home in MOVED[old]:
        importlib.import_module(home)
    with pytest.raises(AttributeError, match="has no attribute 'nothing_of_that_name'"):
        _ = module.nothing_of_that_name


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(("old", "name"), sorted(RENAMED))
def test_an_old_name_is_the_new_object(old, name) -> None:
    found = getattr(importlib.import_module(old), name)
    assert any(getattr(importlib.import_module(home), RENAMED[old, name], None) is found for home in MOVED[old])


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("slimformer.space", "Space"),
        ("slimformer.topology", "UnitGroup"),
        ("slimformer.topology", "SubnetSpec"),
        ("slimformer.distill", "SoftCrossEntropy"),
        ("slimformer.recipe_file", "read_recipe"),
        ("slimformer.task", "TaskData"),
        ("slimformer.train", "run_stage"),
        ("slimformer.rundir", "RunFolder"),
        ("slimformer.commandline", "open_run"),
        ("slimformer_dynabert.depth", "KeepLast"),
    ],
)
def test_what_plugins_imported_from_old_paths_is_there(path, name) -> None:
    assert getattr(importlib.import_module(path), name) is not None


@pytest.mark.parametrize("name", ["BACKBONES", "UnitGroup", "FirstOrder", "COSTS", "load", "read_recipe", "Limit"])
def test_an_old_public_name_works_with_a_warning(name) -> None:
    with pytest.warns(DeprecationWarning, match=rf"slimformer\.{name} is now slimformer\."):
        assert getattr(slimformer, name) is not None
