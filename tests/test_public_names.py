"""The public names: each imports, none is a function and a module at once, and type checkers see their types."""

from __future__ import annotations

import importlib
from types import ModuleType

import pytest
from mypy import api as mypy

import slimformer

FOLDERS = (
    "axes",
    "backbones",
    "costs",
    "distillation",
    "export",
    "importance",
    "repair",
    "rewiring",
    "search",
    "tasks",
    "testing",
)

SNIPPET = """
from torch import nn
import slimformer as sf

def use(model: nn.Module) -> None:
    supernet = sf.make_elastic(model)
    reveal_type(supernet)
    reveal_type(supernet.topology)
    space = sf.Space.of(supernet, width=[1, 0.5])
    reveal_type(space)
    half = space.spec(width=0.5)
    reveal_type(half)
    reveal_type(supernet.subnet(half))
    reveal_type(supernet.extract(half))
    reveal_type(sf.save_pretrained)
    reveal_type(sf.from_pretrained)
    run = sf.Run("runs/x")
    reveal_type(run.results)
    reveal_type(run.supernet)
    reveal_type(run.recipe)
    reveal_type(run.evaluate("w0.5"))
    reveal_type(run.export("w0.5", "small"))
    found = run.search(max_flops="1G")
    reveal_type(found)
    reveal_type(found.best.costs)
    reveal_type(found.pareto_front("flops"))
    reveal_type(sf.repair.LeastSquares()(supernet, half, []))
    reveal_type(sf.rewiring.Sort())
    reveal_type(sf.importance.Magnitude())
    reveal_type(sf.load_plugins())
"""


def test_every_public_name_imports_and_only_folders_are_modules():
    assert set(FOLDERS) <= set(slimformer.__all__)
    for name in slimformer.__all__:
        assert isinstance(getattr(slimformer, name), ModuleType) == (name in FOLDERS), name


@pytest.mark.parametrize("folder", FOLDERS)
def test_no_public_name_of_a_folder_is_a_module(folder):
    package = importlib.import_module(f"slimformer.{folder}")
    for name in package.__all__:
        assert not isinstance(getattr(package, name), ModuleType), name


def test_a_type_checker_sees_the_types_of_the_public_api(tmp_path):
    script = tmp_path / "snippet.py"
    script.write_text(SNIPPET)
    arguments = ("--strict", "--ignore-missing-imports", "--follow-imports=silent", "--cache-dir", str(tmp_path / "cache"))
    out, err, code = mypy.run([*arguments, str(script)])
    revealed = [line for line in out.splitlines() if "Revealed type" in line]
    assert code == 0, out + err
    assert len(revealed) == SNIPPET.count("reveal_type(")
    assert [line for line in revealed if "Any" in line] == []
