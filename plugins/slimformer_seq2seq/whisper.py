"""Whisper: an encoder of sound and a decoder of text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from slimformer.backbones import (
    BACKBONES,
    Attribute,
    BlockStack,
    Topology,
    UnitGroup,
    inputs,
    outputs,
    prefix_of,
    text_example,
    type_of,
)
from slimformer.supernet import Batch

if TYPE_CHECKING:
    from torch import nn

ATTENTIONS = {"encoder": {"heads": "self_attn"}, "decoder": {"heads": "self_attn", "cross": "encoder_attn"}}
"""The attention modules of a block, by what their axis is called."""


@BACKBONES.register("whisper")
@dataclass(frozen=True)
class Whisper:
    """Whisper: in each stack heads, cross-attention heads and feed-forward neurons (width), and blocks (depth)."""

    def describes(self, model: nn.Module) -> bool:
        return type_of(model) == "whisper" and hasattr(model, "get_decoder")

    def topology(self, model: Any) -> Topology:
        groups: list[UnitGroup] = []
        stacks: list[BlockStack] = []
        for tower in ATTENTIONS:
            path, blocks = f"{prefix_of(model)}{tower}.layers", getattr(model.config, f"{tower}_layers")
            groups += [group for block in range(blocks) for group in _groups(model, tower, f"{path}.{block}", block)]
            stacks.append(BlockStack(tower, f"depth.{tower}", path, blocks, config_field=f"{tower}_layers"))
        return Topology(tuple(groups), tuple(stacks))

    def example(self, model: Any, batch_size: int, length: int) -> Batch:
        import torch

        config, dtype = model.config, next(model.parameters()).dtype
        text = text_example(batch_size, length, config.max_target_positions)
        sound = torch.zeros(batch_size, config.num_mel_bins, 2 * config.max_source_positions, dtype=dtype)
        return {"input_features": sound, "decoder_input_ids": text["input_ids"]}


def _groups(model: Any, tower: str, block: str, index: int) -> list[UnitGroup]:
    config, groups = model.config, []
    number, inner = getattr(config, f"{tower}_attention_heads"), getattr(config, f"{tower}_ffn_dim")
    for name, module in ATTENTIONS[tower].items():
        attention, size = f"{block}.{module}", config.d_model // number
        written = [part for way in "qkv" for part in outputs(model, f"{attention}.{way}_proj", size)]
        heads, count = (*written, *inputs(model, f"{attention}.out_proj", size)), Attribute(attention, "num_heads", 1)
        groups.append(UnitGroup(f"{tower}.{index}.{name}", f"width.{tower}.{name}", number, heads, (count,)))
    neurons, field = (*outputs(model, f"{block}.fc1"), *inputs(model, f"{block}.fc2")), f"{tower}_ffn_dim"
    return [*groups, UnitGroup(f"{tower}.{index}.ffn", f"width.{tower}.ffn", inner, neurons, config_field=field)]
