"""CLIP: an image tower and a text tower."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from slimformer.backbones import (
    BACKBONES,
    BlockStack,
    Topology,
    UnitGroup,
    image_example,
    inputs,
    outputs,
    text_example,
    type_of,
)
from slimformer.supernet import Batch

if TYPE_CHECKING:
    from torch import nn

TOWERS = ("vision", "text")


@BACKBONES.register("clip")
@dataclass(frozen=True)
class CLIP:
    """CLIP, whole or with one tower: in each tower heads and feed-forward neurons (width), and blocks (depth)."""

    def describes(self, model: nn.Module) -> bool:
        return type_of(model) == "clip"

    def topology(self, model: Any) -> Topology:
        towers = [tower for tower in TOWERS if hasattr(model, f"{tower}_model")]
        groups: list[UnitGroup] = []
        stacks: list[BlockStack] = []
        for tower in towers:
            path, field = f"{tower}_model.encoder.layers", f"{tower}_config"
            config = getattr(model.config, field)
            for block in range(config.num_hidden_layers):
                groups += _groups(model, tower, f"{path}.{block}", f"{tower}.{block}", config)
            depth = f"{field}.num_hidden_layers"
            stacks.append(BlockStack(tower, f"depth.{tower}", path, config.num_hidden_layers, config_field=depth))
        return Topology(tuple(groups), tuple(stacks))

    def example(self, model: Any, batch_size: int, length: int) -> Batch:
        vision, text = model.config.vision_config, model.config.text_config
        images = (batch_size, vision.num_channels, vision.image_size, vision.image_size)
        found = dict(image_example("pixel_values", images, model))
        return found | dict(
            text_example(batch_size, length, text.max_position_embeddings) if hasattr(model, "text_model") else {}
        )


def _groups(model: Any, tower: str, block: str, name: str, config: Any) -> tuple[UnitGroup, UnitGroup]:
    attention, number = f"{block}.self_attn", config.num_attention_heads
    size = config.hidden_size // number
    written = [part for way in "qkv" for part in outputs(model, f"{attention}.{way}_proj", size)]
    heads = (*written, *inputs(model, f"{attention}.out_proj", size))
    neurons = (*outputs(model, f"{block}.mlp.fc1"), *inputs(model, f"{block}.mlp.fc2"))
    field = f"{tower}_config.intermediate_size"
    return (
        UnitGroup(f"{name}.heads", f"width.{tower}.heads", number, heads),
        UnitGroup(f"{name}.ffn", f"width.{tower}.ffn", config.intermediate_size, neurons, config_field=field),
    )
