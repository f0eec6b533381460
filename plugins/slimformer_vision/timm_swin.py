"""timm's Swin: stages of different width, and a bias table in each block's attention."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from slimformer.backbones import BACKBONES, Attribute, BlockStack, Slice, Topology, UnitGroup, image_example, inputs, outputs
from slimformer.supernet import Batch

if TYPE_CHECKING:
    from torch import nn


@BACKBONES.register("timm_swin")
@dataclass(frozen=True)
class TimmSwin:
    """timm's Swin (version 1): heads and feed-forward neurons (width), and the blocks of each stage (depth).

    Every second block shifts its windows: keep pairs of blocks where windows should stay connected.
    """

    def describes(self, model: nn.Module) -> bool:
        if not type(model).__module__.startswith("timm."):
            return False
        from timm.models.swin_transformer import SwinTransformer

        return isinstance(model, SwinTransformer)

    def topology(self, model: Any) -> Topology:
        groups: list[UnitGroup] = []
        stacks: list[BlockStack] = []
        for stage, layer in enumerate(model.layers):
            path, blocks = f"layers.{stage}.blocks", len(layer.blocks)
            for block in range(blocks):
                groups += _groups(model, f"{path}.{block}", f"stage{stage}.{block}")
            stacks.append(BlockStack(f"stage{stage}", f"depth.stage{stage}", path, blocks, config_field=""))
        return Topology(tuple(groups), tuple(stacks))

    def example(self, model: Any, batch_size: int, length: int) -> Batch:
        patches = model.patch_embed
        return image_example("x", (batch_size, patches.proj.in_channels, *patches.img_size), model)


def _groups(model: Any, block: str, name: str) -> tuple[UnitGroup, UnitGroup]:
    attention, mlp = f"{block}.attn", f"{block}.mlp"
    number, width = model.get_submodule(attention).num_heads, model.get_submodule(f"{attention}.proj").in_features
    size, inner = width // number, model.get_submodule(f"{mlp}.fc2").in_features
    heads = (
        *outputs(model, f"{attention}.qkv", size, starts=(0, width, 2 * width)),
        Slice(f"{attention}.relative_position_bias_table", 1, role="neither"),
        *inputs(model, f"{attention}.proj", size),
    )
    neurons = (*outputs(model, f"{mlp}.fc1"), *inputs(model, f"{mlp}.fc2"))
    return (
        UnitGroup(f"{name}.heads", "width.heads", number, heads, (Attribute(attention, "num_heads", 1),)),
        UnitGroup(f"{name}.ffn", "width.ffn", inner, neurons),
    )
