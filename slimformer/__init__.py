"""slimformer: make any pretrained transformer slimmable; train once, then pick the width and depth that fit.

The public names are imported on first use, so that `import slimformer` does not import torch.
"""

from __future__ import annotations

import importlib
from typing import Any

_HOME = {
    "SuperNet": "supernet",
    "SubnetSpec": "topology", "Topology": "topology", "UnitGroup": "topology", "BlockStack": "topology",
    "Slice": "topology", "Attribute": "topology", "SharedInput": "topology",
    "linear": "topology", "inputs": "describe", "outputs": "describe", "prefix_of": "describe", "text_example": "describe",
    "image_example": "describe", "type_of": "describe", "writes": "describe", "reads": "describe", "entries": "describe",
    "counts": "describe", "adds": "describe", "norms": "describe", "in_features": "describe",
    "propose": "proposal", "plugin_source": "proposal",
    "Space": "space", "Axis": "space", "Point": "space",
    "Rewiring": "rewiring",
    "SCORERS": "importance", "BACKBONES": "backbone", "TASKS": "task", "COSTS": "cost", "SAMPLERS": "sampling",
    "DEPTH_POLICIES": "space", "TERMS": "distill", "STRATEGIES": "search",
    "backbone_for": "backbone", "load_plugins": "plugins",
    "FirstOrder": "importance", "ActivationNorm": "importance", "Magnitude": "importance",
    "PASSES": "rewiring", "Sort": "rewiring",
    "ElasticStep": "distill.step", "Limit": "search",
    "export": "export", "load": "export", "read_recipe": "recipe_file",
    "SlimformerError": "errors",
}  # fmt: skip

__all__ = sorted(_HOME)  # noqa: PLE0605


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'slimformer' has no attribute {name!r}")
    return getattr(importlib.import_module(f"slimformer.{_HOME[name]}"), name)
