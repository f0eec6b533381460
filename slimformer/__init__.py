"""slimformer: make any pretrained transformer slimmable; train once, then pick the width and depth that fit.

The public names are imported on first use, so that `import slimformer` does not import torch.
"""

from __future__ import annotations

import importlib
import warnings
from typing import TYPE_CHECKING

from slimformer.lazy import lazy_names
from slimformer.moved import serve_old_paths

if TYPE_CHECKING:
    from slimformer import (
        axes as axes,
        backbones as backbones,
        costs as costs,
        distillation as distillation,
        export as export,
        importance as importance,
        repair as repair,
        rewiring as rewiring,
        search as search,
        tasks as tasks,
        testing as testing,
    )
    from slimformer.api import make_elastic as make_elastic, save_pretrained as save_pretrained
    from slimformer.axes.base import Axis as Axis
    from slimformer.axes.space import Space as Space
    from slimformer.errors import SlimformerError as SlimformerError
    from slimformer.export.load import from_pretrained as from_pretrained
    from slimformer.plugins import load_plugins as load_plugins
    from slimformer.recipe.schema import Recipe as Recipe
    from slimformer.reports.run_results import RunResults as RunResults
    from slimformer.reports.search_results import SearchResults as SearchResults
    from slimformer.runs.run import Run as Run
    from slimformer.supernet.network import SuperNet as SuperNet
    from slimformer.supernet.spec import SubnetSpec as SubnetSpec
    from slimformer.supernet.topology import Topology as Topology
    from slimformer.version import __version__ as __version__

_FOLDERS = (
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
_PUBLIC = {
    "": _FOLDERS,
    "api": ("make_elastic", "save_pretrained"),
    "axes.base": ("Axis",),
    "axes.space": ("Space",),
    "errors": ("SlimformerError",),
    "export.load": ("from_pretrained",),
    "plugins": ("load_plugins",),
    "recipe.schema": ("Recipe",),
    "reports.run_results": ("RunResults",),
    "reports.search_results": ("SearchResults",),
    "runs.run": ("Run",),
    "version": ("__version__",),
    "supernet.network": ("SuperNet",),
    "supernet.spec": ("SubnetSpec",),
    "supernet.topology": ("Topology",),
}
_OLD = {
    **dict.fromkeys(("BlockStack", "Slice", "Attribute", "UnitGroup", "SharedInput", "linear"), "supernet"),
    **dict.fromkeys(
        ("inputs", "outputs", "prefix_of", "text_example", "image_example", "type_of", "writes", "reads"), "backbones"
    ),
    **dict.fromkeys(("entries", "counts", "adds", "norms", "in_features", "BACKBONES", "backbone_for"), "backbones"),
    **dict.fromkeys(("propose", "plugin_source"), "discovery"),
    **dict.fromkeys(("Point", "DEPTH_POLICIES"), "axes"),
    **dict.fromkeys(("Rewiring", "PASSES", "Sort"), "rewiring"),
    **dict.fromkeys(("SCORERS", "FirstOrder", "ActivationNorm", "Magnitude"), "importance"),
    "TASKS": "tasks",
    "COSTS": "costs",
    **dict.fromkeys(("SAMPLERS", "TERMS"), "distillation"),
    **dict.fromkeys(("STRATEGIES", "Limit"), "search"),
    "ElasticStep": "training",
    "load": "export",
    "read_recipe": "recipe",
}
"""Names that were public here in 0.1 -> the folder that has them now."""

_public, __dir__, __all__ = lazy_names(__name__, _PUBLIC)


def __getattr__(name: str) -> object:
    if name not in _OLD:
        return _public(name)
    home, new = _OLD[name], {"load": "from_pretrained"}.get(name, name)
    warnings.warn(f"slimformer.{name} is now slimformer.{home}.{new}", DeprecationWarning, stacklevel=2)
    return getattr(importlib.import_module(f"slimformer.{home}"), new)


serve_old_paths()
