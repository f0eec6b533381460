"""The vision transformers of timm: query, key and value in one layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from slimformer.backbones import BACKBONES, Attribute, BlockStack, Topology, UnitGroup, image_example, inputs, outputs
from slimformer.supernet import Batch

if TYPE_CHECKING:
    from torch import nn


@BACKBONES.register("timm_vit")
@dataclass(frozen=True)
class TimmViT:
    """timm's ViT and DeiT, with or without LayerScale and distillation token: heads and feed-forward neurons, blocks (depth).

    Blocks of another kind (parallel ones, a norm over all heads' outputs or over the neurons) are not described.
    """

    def describes(self, model: nn.Module) -> bool:
        if not type(model).__module__.startswith("timm."):
            return False
        from timm.models.vision_transformer import VisionTransformer

        return isinstance(model, VisionTransformer) and all(_is_plain(block) for block in model.blocks)

    def topology(self, model: Any) -> Topology:
        groups = [group for block in range(len(model.blocks)) for group in _groups(model, block)]
        return Topology(tuple(groups), (BlockStack("encoder", "depth", "blocks", len(model.blocks), config_field="depth"),))

    def example(self, model: Any, batch_size: int, length: int) -> Batch:
        patches = model.patch_embed
        return image_example("x", (batch_size, patches.proj.in_channels, *patches.img_size), model)


def _is_plain(block: Any) -> bool:
    from timm.layers import Attention, GluMlp, Mlp
    from timm.models.vision_transformer import Block
    from torch import nn

    if type(block) is not Block or type(block.attn) is not Attention or type(block.mlp) not in (Mlp, GluMlp):
        return False
    return isinstance(block.attn.norm, nn.Identity) and isinstance(block.mlp.norm, nn.Identity)


def _groups(model: Any, index: int) -> tuple[UnitGroup, UnitGroup]:
    attention, mlp = f"blocks.{index}.attn", f"blocks.{index}.mlp"
    module, inner = model.get_submodule(attention), model.get_submodule(mlp).fc2.in_features
    size, width = module.head_dim, module.num_heads * module.head_dim
    gate = outputs(model, f"{attention}.gate", size) if module.gate is not None else ()
    fused = outputs(model, f"{attention}.qkv", size, starts=(0, width, 2 * width))
    counts = (Attribute(attention, "num_heads", 1), Attribute(attention, "attn_dim", size))
    neurons = outputs(model, f"{mlp}.fc1", starts=range(0, model.get_submodule(mlp).fc1.out_features, inner))
    heads = (*fused, *gate, *inputs(model, f"{attention}.proj", size))
    return (
        UnitGroup(f"encoder.{index}.heads", "width.heads", module.num_heads, heads, counts),
        UnitGroup(f"encoder.{index}.ffn", "width.ffn", inner, (*neurons, *inputs(model, f"{mlp}.fc2"))),
    )
