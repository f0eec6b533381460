"""timm's BEiT and EVA."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from slimformer.backbones import BACKBONES, BlockStack, Topology, UnitGroup, image_example, inputs, outputs
from slimformer.supernet import Batch

if TYPE_CHECKING:
    from torch import nn


@BACKBONES.register("timm_eva")
@dataclass(frozen=True)
class TimmEva:
    """timm's BEiT, BEiT-2, EVA and EVA-02: feed-forward neurons, gated ones too (width), blocks (depth).

    Heads stay whole: the attention of these classes gives its heads' outputs the shape of the hidden states, so that fewer
    heads do not run. Models with a norm over the neurons are not described.
    """

    def describes(self, model: nn.Module) -> bool:
        if not type(model).__module__.startswith("timm."):
            return False
        from timm.models.beit import Beit
        from timm.models.eva import Eva
        from torch import nn

        blocks = model.blocks if isinstance(model, Beit | Eva) else ()
        return bool(blocks) and all(isinstance(block.mlp.norm, nn.Identity) for block in blocks)

    def topology(self, model: Any) -> Topology:
        groups = [_neurons(model, block) for block in range(len(model.blocks))]
        return Topology(tuple(groups), (BlockStack("encoder", "depth", "blocks", len(model.blocks), config_field="depth"),))

    def example(self, model: Any, batch_size: int, length: int) -> Batch:
        patches = model.patch_embed
        return image_example("x", (batch_size, patches.proj.in_channels, *patches.img_size), model)


def _neurons(model: Any, index: int) -> UnitGroup:
    mlp = f"blocks.{index}.mlp"
    module = model.get_submodule(mlp)
    inner = module.fc2.in_features
    if hasattr(module, "fc1_g"):
        written = (*outputs(model, f"{mlp}.fc1_g"), *outputs(model, f"{mlp}.fc1_x"))
    else:
        written = outputs(model, f"{mlp}.fc1", starts=range(0, module.fc1.out_features, inner))
    return UnitGroup(f"encoder.{index}.ffn", "width.ffn", inner, (*written, *inputs(model, f"{mlp}.fc2")))
