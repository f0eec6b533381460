"""The vision transformers of the transformers library."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from slimformer.backbones import BACKBONES, BlockStack, Topology, UnitGroup, image_example, inputs, outputs, prefix_of, type_of
from slimformer.supernet import Batch

if TYPE_CHECKING:
    from torch import nn

PATHS = {"vit": "layers", "deit": "layers", "dinov2": "encoder.layer"}
"""Where each model type keeps its blocks."""


@BACKBONES.register("vit")
@dataclass(frozen=True)
class ViTFamily:
    """ViT, DeiT and DINOv2 of transformers: heads and feed-forward neurons, gated ones too (width), blocks (depth)."""

    def describes(self, model: nn.Module) -> bool:
        return type_of(model) in PATHS

    def topology(self, model: Any) -> Topology:
        prefix, blocks = prefix_of(model), model.config.num_hidden_layers
        path = f"{prefix}{PATHS[type_of(model)]}"
        groups = [group for block in range(blocks) for group in _groups(model, f"{path}.{block}", block)]
        return Topology(tuple(groups), (BlockStack("encoder", "depth", path, blocks),))

    def example(self, model: Any, batch_size: int, length: int) -> Batch:
        size = model.config.image_size
        height, width = size if isinstance(size, list | tuple) else (size, size)
        return image_example("pixel_values", (batch_size, model.config.num_channels, height, width), model)


def _groups(model: Any, block: str, index: int) -> tuple[UnitGroup, UnitGroup]:
    attention, mlp = f"{block}.attention", f"{block}.mlp"
    size, number = model.get_submodule(attention).head_dim, model.config.num_attention_heads
    written = [part for name in "qkv" for part in outputs(model, f"{attention}.{name}_proj", size)]
    is_gated = hasattr(model.get_submodule(mlp), "gate_proj")
    names, reader = (("gate_proj", "up_proj"), "down_proj") if is_gated else (("fc1",), "fc2")
    inner = model.get_submodule(f"{mlp}.{reader}").in_features
    neurons = (*(part for name in names for part in outputs(model, f"{mlp}.{name}")), *inputs(model, f"{mlp}.{reader}"))
    field = "intermediate_size" if hasattr(model.config, "intermediate_size") else ""
    return (
        UnitGroup(f"encoder.{index}.heads", "width.heads", number, (*written, *inputs(model, f"{attention}.o_proj", size))),
        UnitGroup(f"encoder.{index}.ffn", "width.ffn", inner, neurons, config_field=field),
    )
