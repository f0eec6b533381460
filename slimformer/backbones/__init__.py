"""Backbones: descriptions of model families, and helpers to write them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from slimformer.lazy import lazy_names

if TYPE_CHECKING:
    from slimformer.backbones.base import (
        BACKBONES as BACKBONES,
        Backbone as Backbone,
        backbone_for as backbone_for,
        backbones_for as backbones_for,
    )
    from slimformer.backbones.layers import (
        adds as adds,
        check_stream_stays_inside as check_stream_stays_inside,
        counts as counts,
        entries as entries,
        has_modules as has_modules,
        has_settings as has_settings,
        image_example as image_example,
        in_features as in_features,
        inputs as inputs,
        is_linear as is_linear,
        norms as norms,
        outputs as outputs,
        prefix_of as prefix_of,
        reads as reads,
        text_example as text_example,
        type_of as type_of,
        writes as writes,
    )
    from slimformer.supernet.topology import (
        Attribute as Attribute,
        BlockStack as BlockStack,
        SharedInput as SharedInput,
        Slice as Slice,
        Topology as Topology,
        UnitGroup as UnitGroup,
        linear as linear,
    )

__getattr__, __dir__, __all__ = lazy_names(
    __name__,
    {
        "base": ["BACKBONES", "Backbone", "backbone_for", "backbones_for"],
        "layers": [
            "adds",
            "check_stream_stays_inside",
            "counts",
            "entries",
            "has_modules",
            "has_settings",
            "image_example",
            "in_features",
            "inputs",
            "is_linear",
            "norms",
            "outputs",
            "prefix_of",
            "reads",
            "text_example",
            "type_of",
            "writes",
        ],
        "slimformer.supernet.topology": ["Attribute", "BlockStack", "SharedInput", "Slice", "Topology", "UnitGroup", "linear"],
    },
)
