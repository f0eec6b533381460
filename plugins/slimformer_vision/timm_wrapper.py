"""transformers' wrapper around a timm model: what a backbone says about the timm model holds inside the wrapper."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from slimformer.backbones import BACKBONES, Backbone, Topology, backbone_for, type_of
from slimformer.supernet import Batch

if TYPE_CHECKING:
    from torch import nn

PREFIX, ARGUMENTS = "timm_model.", "model_args."
"""What a wrapper calls its timm model, and its configuration the arguments that make one."""


@BACKBONES.register("timm_wrapper")
@dataclass(frozen=True)
class TimmWrapper:
    """A timm model as transformers loads and saves it: the topology of the timm model, inside the wrapper."""

    def describes(self, model: nn.Module) -> bool:
        return type_of(model) == "timm_wrapper" and any(cls().describes(model.timm_model) for _, cls in BACKBONES)

    def topology(self, model: Any) -> Topology:
        return self._inner(model).topology(model.timm_model).within(PREFIX, ARGUMENTS)

    def example(self, model: Any, batch_size: int, length: int) -> Batch:
        (images,) = self._inner(model).example(model.timm_model, batch_size, length).values()
        return {"pixel_values": images}

    def _inner(self, model: Any) -> Backbone:
        return backbone_for(model.timm_model)
